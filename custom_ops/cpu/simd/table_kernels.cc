// Loops that make tables and add their rows, and the table of all kernels of one instruction set.
#include <string.h>

#include "hash_kernels.h"

namespace reuse {
namespace simd {
namespace REUSE_TARGET {
namespace {

// A vector of kLanes floats: one register on AVX-512, two on AVX2, four on SSE.
typedef float Lanes __attribute__((vector_size(kLanes * sizeof(float)), aligned(4)));

inline __attribute__((always_inline)) void load(Lanes& value, const float* from) {
  memcpy(&value, from, sizeof(Lanes));
}
inline __attribute__((always_inline)) void store(float* to, const Lanes& value) { memcpy(to, &value, sizeof(Lanes)); }

// Rows of a register block of gemm: enough independent sums to hide the latency of a multiply-add.
constexpr int64_t kBlockRows = 8;

template <int64_t kRows>
inline __attribute__((always_inline)) void gemm_block(const float* a, int64_t depth, const float* b, int64_t b_stride,
                                                      int64_t width, float* out, int64_t out_stride) {
  Lanes sums[kRows];
  for (int64_t r = 0; r < kRows; ++r) sums[r] = Lanes{};
  for (int64_t d = 0; d < depth; ++d) {
    Lanes row;
    load(row, b + d * b_stride);
    for (int64_t r = 0; r < kRows; ++r) sums[r] += a[r * depth + d] * row;
  }
  for (int64_t r = 0; r < kRows; ++r) {
    if (width >= kLanes) {
      store(out + r * out_stride, sums[r]);
    } else {
      memcpy(out + r * out_stride, &sums[r], static_cast<size_t>(width) * sizeof(float));
    }
  }
}

// Adds the table rows of one pixel's taps to kVectors vectors of sums held in registers.
template <int64_t kVectors>
inline __attribute__((always_inline)) void add_taps_of_row(const GatherTile& tile, const TapRow& row, int64_t offset) {
  for (int64_t x = 0; x < row.out_w; ++x) {
    float* target = tile.sums + x * tile.sums_stride + offset;
    Lanes sums[kVectors];
    for (int64_t v = 0; v < kVectors; ++v) load(sums[v], target + v * kLanes);
    const int64_t left = row.left + x * row.stride_w;
    for (int64_t i = 0; i < row.kernel_h; ++i) {
      const int64_t y_in = row.top + i * row.dilation_h;
      if (y_in < 0 || y_in >= row.in_h) continue;
      const int32_t* ids = tile.ids + row.first_id + y_in * row.in_w;
      const float* taps = tile.table + i * row.kernel_w * tile.tap_stride + offset;
      for (int64_t j = 0; j < row.kernel_w; ++j) {
        const int64_t x_in = left + j * row.dilation_w;
        if (x_in < 0 || x_in >= row.in_w) continue;
        const float* source = taps + ids[x_in] * tile.row_stride + j * tile.tap_stride;
        for (int64_t v = 0; v < kVectors; ++v) {
          Lanes addend;
          load(addend, source + v * kLanes);
          sums[v] += addend;
        }
      }
    }
    for (int64_t v = 0; v < kVectors; ++v) store(target + v * kLanes, sums[v]);
  }
}

// The same for the channels that do not fill a vector.
inline void add_taps_of_tail(const GatherTile& tile, const TapRow& row, int64_t offset) {
  for (int64_t x = 0; x < row.out_w; ++x) {
    for (int64_t i = 0; i < row.kernel_h; ++i) {
      const int64_t y_in = row.top + i * row.dilation_h;
      if (y_in < 0 || y_in >= row.in_h) continue;
      for (int64_t j = 0; j < row.kernel_w; ++j) {
        const int64_t x_in = row.left + x * row.stride_w + j * row.dilation_w;
        if (x_in < 0 || x_in >= row.in_w) continue;
        const int64_t id = tile.ids[row.first_id + y_in * row.in_w + x_in];
        const float* source = tile.table + id * tile.row_stride + (i * row.kernel_w + j) * tile.tap_stride;
        for (int64_t c = offset; c < tile.channels; ++c) tile.sums[x * tile.sums_stride + c] += source[c];
      }
    }
  }
}

void gemm(const float* a, int64_t rows, int64_t depth, const float* b, int64_t b_stride, int64_t width, float* out,
          int64_t out_stride) {
  // Columns outside, rows inside: a strip of b stays in the cache while all rows pass.
  for (int64_t n = 0; n < width; n += kLanes) {
    int64_t r = 0;
    for (; r + kBlockRows <= rows; r += kBlockRows) {
      gemm_block<kBlockRows>(a + r * depth, depth, b + n, b_stride, width - n, out + r * out_stride + n, out_stride);
    }
    for (; r < rows; ++r) {
      gemm_block<1>(a + r * depth, depth, b + n, b_stride, width - n, out + r * out_stride + n, out_stride);
    }
  }
}

void add_rows(const GatherTile& tile, int64_t pixels) {
  for (int64_t p = 0; p < pixels; ++p) {
    const float* source = tile.table + tile.ids[p] * tile.row_stride;
    float* sums = tile.sums + p * tile.sums_stride;
    for (int64_t c = 0; c < tile.channels; ++c) sums[c] += source[c];
  }
}

void add_taps(const GatherTile& tile, const TapRow& row) {
  int64_t offset = 0;
  for (; offset + 4 * kLanes <= tile.channels; offset += 4 * kLanes) add_taps_of_row<4>(tile, row, offset);
  for (; offset + kLanes <= tile.channels; offset += kLanes) add_taps_of_row<1>(tile, row, offset);
  if (offset < tile.channels) add_taps_of_tail(tile, row, offset);
}

}  // namespace

extern const Kernels kKernels;
const Kernels kKernels = {REUSE_TARGET_NAME, project, sign_bits, tree_leaves, fingerprint,
                          all_finite,        gemm,    add_rows,  add_taps};

}  // namespace REUSE_TARGET
}  // namespace simd
}  // namespace reuse
