// The way back: output deltas into the sums of clusters, and the centroids' deltas into those of the input.
#include "lanes.h"
#include "table_kernels.h"

namespace reuse {
namespace simd {
namespace REUSE_TARGET {
namespace {

// Adds `kVectors` vectors of each pixel's values to the rows of its taps.
template <int64_t kVectors>
REUSE_INLINE void scatter_vectors(const SumTable& table, const TapRow& row, const float* values, int64_t stride) {
  for (int64_t x = 0; x < row.columns; ++x) {
    Lanes own[kVectors];
    for (int64_t v = 0; v < kVectors; ++v) own[v] = load(values + x * stride + v * kLanes);
    const int64_t left = row.left + x * row.stride_w;
    for (int64_t i = 0; i < row.kernel_h; ++i) {
      const int64_t input_row = row.top + i * row.dilation_h;
      if (input_row < 0 || input_row >= row.in_h) continue;
      const int32_t* ids = table.ids + row.first_id + input_row * row.in_w;
      float* taps = table.rows + i * row.kernel_w * table.tap_stride;
      for (int64_t j = 0; j < row.kernel_w; ++j) {
        const int64_t column = left + j * row.dilation_w;
        if (column < 0 || column >= row.in_w) continue;
        float* target = taps + ids[column] * table.row_stride + j * table.tap_stride;
        for (int64_t v = 0; v < kVectors; ++v) store(target + v * kLanes, load(target + v * kLanes) + own[v]);
      }
    }
  }
}

}  // namespace

void scatter_taps(const SumTable& table, const TapRow& row, const float* values, int64_t stride, int64_t channels) {
  int64_t offset = 0;
  SumTable own = table;
  const auto advance = [&](int64_t vectors) {
    offset += vectors * kLanes;
    own.rows += vectors * kLanes;
  };
  for (; offset + 4 * kLanes <= channels; advance(4)) scatter_vectors<4>(own, row, values + offset, stride);
  for (; offset + 2 * kLanes <= channels; advance(2)) scatter_vectors<2>(own, row, values + offset, stride);
  for (; offset + kLanes <= channels; advance(1)) scatter_vectors<1>(own, row, values + offset, stride);
}

void pack_pixels(const float* planes, int64_t plane, int64_t channels, int64_t pixels, float* out, int64_t stride) {
  for (int64_t c = 0; c < channels; c += kLanes) {
    const int64_t count = channels - c < kLanes ? channels - c : kLanes;
    for (int64_t p = 0; p < pixels; p += kLanes) {
      const int64_t found = pixels - p < kLanes ? pixels - p : kLanes;
      Lanes square[kLanes] = {};
      for (int64_t r = 0; r < count; ++r) {
        const float* source = planes + (c + r) * plane + p;
        square[r] = found == kLanes ? load(source) : load_first(source, found);
      }
      transpose(square);
      for (int64_t i = 0; i < found; ++i) store(out + (p + i) * stride + c, square[i]);
    }
  }
}

void fold_rows(const float* rows, int64_t stride, const int32_t* ids, int64_t count, const FoldPiece* pieces,
               int64_t num_pieces, float* windows, int64_t step) {
  for (int64_t p = 0; p < count; ++p) {
    const float* row = rows + ids[p] * stride;
    float* window = windows + p * step;
    for (int64_t k = 0; k < num_pieces; ++k) {
      const float* from = row + pieces[k].from;
      float* to = window + pieces[k].to;
      int64_t l = 0;
      for (; l + kLanes <= pieces[k].count; l += kLanes) store(to + l, load(to + l) + load(from + l));
      const int64_t rest = pieces[k].count - l;
      if (rest > 0) store_first(to + l, load_first(to + l, rest) + load_first(from + l, rest), rest);
    }
  }
}

}  // namespace REUSE_TARGET
}  // namespace simd
}  // namespace reuse
