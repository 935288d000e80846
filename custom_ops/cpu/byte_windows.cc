#include "byte_windows.h"

#include <algorithm>
#include <cstring>

#include "gather.h"
#include "heuristics.h"
#include "stopwatch.h"

namespace reuse {
namespace {

constexpr auto kIdBytes = static_cast<int64_t>(sizeof(int32_t));

class WindowSource final : public RowSource {
 public:
  WindowSource(const Blocking& blocking, const ByteVectors& vectors, int64_t group, int64_t stride)
      : RowSource(stride * kIdBytes),
        blocking_(blocking),
        vectors_(vectors),
        first_block_(group * blocking.blocks_per_group),
        stride_(stride) {}

  ByteRows read(int64_t first, int64_t count, uint8_t* room) const override {
    const ConvGeometry& g = blocking_.geometry;
    auto* const ids = reinterpret_cast<int32_t*>(room);
    for (int64_t done = 0; done < count;) {
      const int64_t pixel = (first + done) % g.out_pixels(), column = pixel % g.out_w;
      const int64_t run = std::min(g.out_w - column, count - done);
      read_run(tap_row(blocking_, (first + done) / g.out_pixels(), pixel / g.out_w, column, run), ids + done * stride_);
      done += run;
    }
    return {room, row_bytes_};
  }

 private:
  // Pixels that are neighbours in a row.
  void read_run(const simd::TapRow& taps, int32_t* to) const {
    for (int64_t b = first_block_; b < first_block_ + blocking_.blocks_per_group; ++b) {
      const int32_t* const ids = vectors_.ids.data() + b * blocking_.vectors + taps.first_id;
      const int32_t padding = vectors_.padding.empty() ? 0 : vectors_.padding[static_cast<size_t>(b)];
      for (int64_t i = 0; i < taps.kernel_h; ++i) {
        const int64_t y = taps.top + i * taps.dilation_h;
        for (int64_t j = 0; j < taps.kernel_w; ++j, ++to) {
          const int64_t left = taps.left + j * taps.dilation_w;
          const ColumnRange inside = y >= 0 && y < taps.in_h
                                         ? columns_inside(left, taps.stride_w, taps.in_w, taps.columns)
                                         : ColumnRange{0, 0};
          for (int64_t p = 0; p < inside.begin; ++p) to[p * stride_] = padding;
          for (int64_t p = inside.begin; p < inside.end; ++p) {
            to[p * stride_] = ids[y * taps.in_w + left + p * taps.stride_w];
          }
          for (int64_t p = inside.end; p < taps.columns; ++p) to[p * stride_] = padding;
        }
      }
    }
  }

  const Blocking& blocking_;
  const ByteVectors& vectors_;
  int64_t first_block_, stride_;
};

int64_t stride_of(const Blocking& blocking) {
  constexpr int64_t kUnit = kRowUnit / kIdBytes;
  const int64_t width = blocking.blocks_per_group * blocking.taps_per_block();
  return (width + kUnit - 1) / kUnit * kUnit;
}

}  // namespace

ByteWindows::ByteWindows(Workspace& workspace, const Blocking& blocking, const ByteVectors& vectors, int64_t group)
    : first_block_(group * blocking.blocks_per_group),
      blocks_(blocking.blocks_per_group),
      taps_(blocking.taps_per_block()),
      stride_(stride_of(blocking)),
      rows_(workspace, stride_ * kIdBytes, Search::kWherePaying),
      windows_(workspace, static_cast<size_t>(blocking.geometry.rows())),
      places_(workspace) {
  Stopwatch watch(workspace.statistics.gather_ns);
  const auto pixels = static_cast<int32_t>(blocking.geometry.rows());
  rows_.add(workspace.parallel, WindowSource(blocking, vectors, group, stride_), 0, pixels, windows_.data());
  places_.resize(static_cast<size_t>(rows_.count()));
  size_t found = 0;
  for (int32_t p = 0; p < pixels; ++p) {
    if (windows_[static_cast<size_t>(p)] == static_cast<int32_t>(found)) places_[found++] = p;
  }
}

void ByteWindows::read(const ByteVectors& vectors, int64_t row_bytes, int64_t first, int64_t count,
                       const uint8_t** to) const {
  for (int64_t w = first; w < first + count; ++w) {
    const int32_t* of_window = ids() + w * stride_;
    for (int64_t b = first_block_; b < first_block_ + blocks_; ++b) {
      const uint8_t* const own = vectors.blocks[static_cast<size_t>(b)].rows();
      for (int64_t tap = 0; tap < taps_; ++tap) *to++ = own + *of_window++ * row_bytes;
    }
  }
}

void ByteWindows::copy(Workspace& workspace, uint8_t* y, int64_t bytes, int64_t stride) const {
  const auto pixels = static_cast<int64_t>(windows_.size());
  if (count() == pixels) return;
  Stopwatch watch(workspace.statistics.gather_ns);
  workspace.parallel.run((pixels + kCopiedPixels - 1) / kCopiedPixels, [&](int64_t task) {
    const int64_t end = std::min(pixels, (task + 1) * kCopiedPixels);
    for (int64_t p = task * kCopiedPixels; p < end; ++p) {
      const int64_t place = places_[static_cast<size_t>(windows_[static_cast<size_t>(p)])];
      if (place != p) std::memcpy(y + p * stride, y + place * stride, static_cast<size_t>(bytes));
    }
  });
}

}  // namespace reuse
