// Multiplication of centroids with packed weights.
#include "lanes.h"
#include "table_kernels.h"

namespace reuse {
namespace simd {
namespace REUSE_TARGET {
namespace {

// Register block: kBlockRows * kBlockStrips sums of kLanes each, as many as leave registers for a row of the panel, so
// that the latency of a multiply-add is hidden and each load serves many of them.
#if defined(__AVX512F__)
constexpr int64_t kBlockRows = 12, kBlockStrips = 2;  // 24 of 32 registers
#elif defined(__AVX2__) || defined(__aarch64__)
constexpr int64_t kBlockRows = 6, kBlockStrips = 1;  // 12 of 16, or 24 of 32
#else
constexpr int64_t kBlockRows = 3, kBlockStrips = 1;  // 12 of 16
#endif

template <int64_t kRows, int64_t kStrips>
REUSE_INLINE void multiply_block(const float* a, int64_t depth, const float* panel, int64_t width, float* out,
                                 int64_t out_stride) {
  Lanes sums[kRows][kStrips];
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t s = 0; s < kStrips; ++s) sums[r][s] = Lanes{};
  }
  for (int64_t d = 0; d < depth; ++d) {
    Lanes row[kStrips];
    for (int64_t s = 0; s < kStrips; ++s) row[s] = load(panel + (s * depth + d) * kLanes);
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t s = 0; s < kStrips; ++s) sums[r][s] += a[r * depth + d] * row[s];
    }
  }
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t s = 0; s < kStrips; ++s) {
      float* target = out + r * out_stride + s * kLanes;
      const int64_t rest = width - s * kLanes;
      if (rest >= kLanes) {
        store(target, sums[r][s]);
      } else {
        store_first(target, sums[r][s], rest);
      }
    }
  }
}

template <int64_t kStrips>
REUSE_INLINE void multiply_strips(const float* a, int64_t rows, int64_t depth, const float* panel, int64_t width,
                                  float* out, int64_t out_stride) {
  int64_t r = 0;
  for (; r + kBlockRows <= rows; r += kBlockRows) {
    multiply_block<kBlockRows, kStrips>(a + r * depth, depth, panel, width, out + r * out_stride, out_stride);
  }
  for (; r + 3 <= rows; r += 3) {
    multiply_block<3, kStrips>(a + r * depth, depth, panel, width, out + r * out_stride, out_stride);
  }
  for (; r < rows; ++r) {
    multiply_block<1, kStrips>(a + r * depth, depth, panel, width, out + r * out_stride, out_stride);
  }
}

}  // namespace

void gemm(const float* a, int64_t rows, int64_t depth, const float* panel, int64_t width, float* out,
          int64_t out_stride) {
  // Columns outside, rows inside: a strip of the panel stays in the cache while all rows pass.
  int64_t n = 0;
  for (; n + (kBlockStrips - 1) * kLanes < width; n += kBlockStrips * kLanes) {
    multiply_strips<kBlockStrips>(a, rows, depth, panel + n * depth, width - n, out + n, out_stride);
  }
  for (; n < width; n += kLanes) {
    multiply_strips<1>(a, rows, depth, panel + n * depth, width - n, out + n, out_stride);
  }
}

}  // namespace REUSE_TARGET
}  // namespace simd
}  // namespace reuse
