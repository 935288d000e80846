#include "tile.h"

#include <algorithm>
#include <cstring>

#include "simd/kernels.h"

namespace reuse {
namespace {

constexpr int64_t kLineFloats = 16;

// Pixels of one image are contiguous in every channel, so a tile is one copy per channel and image.
void load_channel_tile(const Blocking& blocking, const float* x, int64_t block, Elements elements, int64_t first,
                       int64_t count, float* values) {
  const ConvGeometry& g = blocking.geometry;
  const int64_t pixels = g.in_pixels();
  const int64_t channel = blocking.first_channel(block) + elements.begin;
  for (int64_t done = 0; done < count;) {
    const int64_t image = (first + done) / pixels, pixel = (first + done) % pixels;
    const int64_t run = std::min(count - done, pixels - pixel);
    const float* source = x + (image * g.in_channels + channel) * pixels + pixel;
    for (int64_t l = 0; l < elements.count; ++l) {
      // The next tile's part of this channel: the processor sees no pattern in reads that go from channel to channel.
      for (int64_t p = run; p < 2 * run; p += kLineFloats) __builtin_prefetch(source + l * pixels + p);
      std::memcpy(values + l * kTileVectors + done, source + l * pixels, static_cast<size_t>(run) * sizeof(float));
    }
    done += run;
  }
}

// Copies one tap of `count` neighbouring windows: input columns column, column + stride, ..., zeros outside 0..width-1.
void copy_windows(const float* row, int64_t width, int64_t column, int64_t stride, int64_t count, float* out) {
  const int64_t before = column >= 0 ? 0 : std::min(count, (-column + stride - 1) / stride);
  const int64_t inside = column >= width ? 0 : std::min(count, (width - 1 - column) / stride + 1);
  std::fill(out, out + before, 0.0f);
  if (stride == 1) {
    if (inside > before) std::copy(row + column + before, row + column + inside, out + before);
  } else {
    for (int64_t p = before; p < inside; ++p) out[p] = row[column + p * stride];
  }
  const int64_t after = std::max(before, inside);
  std::fill(out + after, out + count, 0.0f);
}

// Windows of one output row are neighbours, so a tile is filled per column of the unfolded input and output row.
void load_patch_tile(const Blocking& blocking, const float* x, int64_t block, Elements elements, int64_t first,
                     int64_t count, float* values) {
  const ConvGeometry& g = blocking.geometry;
  const ConvAttributes& a = g.attributes;
  const int64_t channels = g.group_in_channels();
  const int64_t first_channel = blocking.group_of(block) * channels;
  const int64_t start = blocking.block_start(block) + elements.begin;
  for (int64_t done = 0; done < count;) {
    const int64_t image = (first + done) / g.out_pixels(), pixel = (first + done) % g.out_pixels();
    const int64_t out_row = pixel / g.out_w, out_column = pixel % g.out_w;
    const int64_t run = std::min(count - done, g.out_w - out_column);
    for (int64_t l = 0; l < elements.count; ++l) {
      const int64_t tap = (start + l) / channels, channel = (start + l) % channels;
      const int64_t in_row = out_row * a.stride_h - a.pad_top + tap / a.kernel_w * a.dilation_h;
      const int64_t in_column = out_column * a.stride_w - a.pad_left + tap % a.kernel_w * a.dilation_w;
      float* out = values + l * kTileVectors + done;
      if (in_row < 0 || in_row >= g.in_h) {
        std::fill(out, out + run, 0.0f);
      } else {
        const float* plane = x + (image * g.in_channels + first_channel + channel) * g.in_pixels();
        copy_windows(plane + in_row * g.in_w, g.in_w, in_column, a.stride_w, run, out);
      }
    }
    done += run;
  }
}

}  // namespace

Rows rows_in_place(const Blocking& blocking, const float* x, int64_t block, Elements elements, int64_t first,
                   int64_t count) {
  const ConvGeometry& g = blocking.geometry;
  const int64_t channel = blocking.first_channel(block) + elements.begin;
  return {x + first * g.in_channels + channel, g.in_channels, elements.count, count};
}

bool is_finite(const float* values, int64_t count) {
  uint8_t finite = 0;
  simd::kernels().all_finite_rows(values, count, count, 1, &finite);
  return finite != 0;
}

Tile load_tile(const Blocking& blocking, const float* x, int64_t block, Elements elements, int64_t first, int64_t count,
               float* values) {
  if (blocking.geometry.attributes.input_order == DataOrder::kNhwc) {
    const Rows rows = rows_in_place(blocking, x, block, elements, first, count);
    const int64_t readable = x + blocking.vectors * blocking.geometry.in_channels - rows.values;
    simd::kernels().transpose_rows(rows.values, rows.stride, rows.length, count, readable, values, kTileVectors);
  } else if (blocking.layout() == Layout::kPatch) {
    load_patch_tile(blocking, x, block, elements, first, count, values);
  } else {
    load_channel_tile(blocking, x, block, elements, first, count, values);
  }
  return Tile{values, kTileVectors, elements.count, count};
}

Tile load_tile(const Blocking& blocking, const float* x, int64_t block, int64_t first, int64_t count, float* values) {
  return load_tile(blocking, x, block, Elements{0, blocking.block_length(block)}, first, count, values);
}

Tile view_tile(const Blocking& blocking, const float* x, int64_t block, int64_t first, int64_t count, float* values) {
  const ConvGeometry& g = blocking.geometry;
  const int64_t pixels = g.in_pixels(), image = first / pixels, pixel = first % pixels;
  const bool in_planes = g.attributes.input_order == DataOrder::kNchw && blocking.layout() == Layout::kChannel;
  // Tiles are readable in steps of 2 * kLanes vectors, and what follows the last plane is not.
  if (!in_planes || pixel + count > pixels || count % (2 * simd::kLanes) != 0) {
    return load_tile(blocking, x, block, first, count, values);
  }
  const float* own = x + (image * g.in_channels + blocking.first_channel(block)) * pixels + pixel;
  const int64_t length = blocking.block_length(block);
  for (int64_t l = 0; l < length; ++l) {
    for (int64_t p = count; p < 2 * count; p += kLineFloats) __builtin_prefetch(own + l * pixels + p);
  }
  return Tile{own, pixels, length, count};
}

}  // namespace reuse
