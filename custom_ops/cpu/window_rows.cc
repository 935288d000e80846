#include "window_rows.h"

#include <algorithm>

#include "tile.h"

namespace reuse {
namespace {

int64_t whole_lanes(int64_t floats) { return (floats + simd::kLanes - 1) / simd::kLanes * simd::kLanes; }

}  // namespace

WindowRows::WindowRows(Allocator& allocator, const Blocking& blocking, const float* x, int64_t block)
    : blocking_(blocking),
      x_(x),
      memory_(allocator),
      zeros_(allocator),
      rows_(allocator),
      stride_(whole_lanes(blocking.sub_vector_length())) {
  const ConvGeometry& g = blocking.geometry;
  const ConvAttributes& a = g.attributes;
  const int64_t start = blocking.block_start(block), length = blocking.block_length(block);
  const int64_t group_channels = g.group_in_channels();
  // A block within one tap reads some channels only.
  const bool one_tap = start / group_channels == (start + length - 1) / group_channels;
  channels_ = one_tap ? length : group_channels;
  first_channel_ = blocking.group_of(block) * group_channels + (one_tap ? start % group_channels : 0);
  band_columns_ = (g.out_w - 1) * a.stride_w + (a.kernel_w - 1) * a.dilation_w + 1;
  band_floats_ = band_columns_ * channels_ + 2 * simd::kLanes;  // pieces are read in whole lanes
  bands_.resize(static_cast<size_t>((a.kernel_h - 1) * a.dilation_h + 1));
  memory_.resize(bands_.size() * static_cast<size_t>(band_floats_));
  std::fill_n(memory_.data(), memory_.size(), 0.0f);
  zeros_.resize(static_cast<size_t>(band_floats_));
  std::fill_n(zeros_.data(), zeros_.size(), 0.0f);
  rows_.resize(static_cast<size_t>(kTileVectors * stride_));
  find_stretches(start, length);
}

void WindowRows::find_stretches(int64_t start, int64_t length) {
  const ConvAttributes& a = blocking_.geometry.attributes;
  const int64_t group_channels = blocking_.geometry.group_in_channels();
  const int64_t taps = a.dilation_w == 1 ? a.kernel_w : 1;  // that are neighbours in a band
  for (int64_t begin = start; begin < start + length;) {
    const int64_t tap = begin / group_channels, row = tap / a.kernel_w, column = tap % a.kernel_w;
    const int64_t whole = (row * a.kernel_w + column / taps * taps + taps) * group_channels;
    const int64_t end = std::min(whole, start + length),
                  channel = channels_ < group_channels ? 0 : begin % group_channels;
    stretches_.push_back({row, column * a.dilation_w * channels_ + channel, begin - start, end - begin});
    begin = end;
  }
}

void WindowRows::fill_band(int64_t image, int64_t row, float* values) {
  const ConvGeometry& g = blocking_.geometry;
  const ConvAttributes& a = g.attributes;
  const int64_t inside = std::clamp<int64_t>(band_columns_ - a.pad_left, 0, g.in_w);  // columns of the input
  for (int64_t c = 0; c < channels_; ++c) {
    const float* source = x_ + ((image * g.in_channels + first_channel_ + c) * g.in_h + row) * g.in_w;
    float* target = values + a.pad_left * channels_ + c;
    for (int64_t j = 0; j < inside; ++j) target[j * channels_] = source[j];
  }
}

const float* WindowRows::band(int64_t image, int64_t row) {
  if (row < 0 || row >= blocking_.geometry.in_h) return zeros_.data() + simd::kLanes;
  const size_t slot = static_cast<size_t>(row) % bands_.size();
  float* values = memory_.data() + slot * static_cast<size_t>(band_floats_) + simd::kLanes;
  Band& kept = bands_[slot];
  if (kept.image != image || kept.row != row) {
    fill_band(image, row, values);
    kept = {image, row, is_finite(values, band_columns_ * channels_)};
  }
  all_finite_ = all_finite_ && kept.finite;
  return values;
}

Rows WindowRows::read(int64_t first, int64_t count) {
  const ConvGeometry& g = blocking_.geometry;
  const ConvAttributes& a = g.attributes;
  const int64_t step = a.stride_w * channels_;
  all_finite_ = true;
  for (int64_t done = 0; done < count;) {
    const int64_t image = (first + done) / g.out_pixels(), pixel = (first + done) % g.out_pixels();
    const int64_t out_row = pixel / g.out_w, out_column = pixel % g.out_w;
    const int64_t run = std::min(count - done, g.out_w - out_column);
    pieces_.clear();
    for (const Stretch& s : stretches_) {
      const float* values = band(image, out_row * a.stride_h - a.pad_top + s.tap_row * a.dilation_h);
      pieces_.push_back({values + s.offset + out_column * step, step, s.element, s.count});
    }
    simd::kernels().copy_pieces(pieces_.data(), static_cast<int64_t>(pieces_.size()), run,
                                rows_.data() + done * stride_, stride_);
    done += run;
  }
  return {rows_.data(), stride_, stride_, count};
}

}  // namespace reuse
