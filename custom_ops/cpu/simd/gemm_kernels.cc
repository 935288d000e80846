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
struct Block {
  Lanes sums[kRows][kStrips];

  REUSE_INLINE Block(const float* a, int64_t depth, const float* panel, int64_t step) {
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t s = 0; s < kStrips; ++s) sums[r][s] = Lanes{};
    }
    for (int64_t d = 0; d < depth; ++d) {
      Lanes row[kStrips];
      for (int64_t s = 0; s < kStrips; ++s) row[s] = load(panel + s * step + d * kLanes);
      for (int64_t r = 0; r < kRows; ++r) {
        for (int64_t s = 0; s < kStrips; ++s) sums[r][s] += row[s] * a[r * depth + d];
      }
    }
  }
};

template <int64_t kRows, int64_t kStrips>
REUSE_INLINE void multiply_block(const float* a, int64_t depth, const float* panel, int64_t step, int64_t width,
                                 float* out, int64_t out_stride) {
  const Block<kRows, kStrips> block(a, depth, panel, step);
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t s = 0; s < kStrips; ++s) {
      float* target = out + r * out_stride + s * kLanes;
      const int64_t rest = width - s * kLanes;
      if (rest >= kLanes) {
        store(target, block.sums[r][s]);
      } else {
        store_first(target, block.sums[r][s], rest);
      }
    }
  }
}

// Rows of a register block of an int8 table, four strips wide.
#if defined(__AVX512F__)
constexpr int64_t kInt8Rows = 6;
#elif defined(__aarch64__)
constexpr int64_t kInt8Rows = 2;
#else
constexpr int64_t kInt8Rows = 1;
#endif

// The integer nearest to value * scale, in the low bits: adding 1.5 * 2^23 leaves no bits for a fraction.
REUSE_INLINE IntLanes rounded(const Lanes& value, const Lanes& scale) {
  const Lanes shifted = value * scale + 12582912.0f;
  return bits_as<int32_t>(shifted) & 0xFF;
}

template <int64_t kRows>
REUSE_INLINE void quantise_block(const float* a, int64_t depth, const float* panel, const float* inverse, uint8_t* out,
                                 int64_t out_stride) {
  const Block<kRows, 4> block(a, depth, panel, depth * kLanes);
  for (int64_t r = 0; r < kRows; ++r) {
    IntLanes bytes = rounded(block.sums[r][0], load(inverse));
    bytes |= rounded(block.sums[r][1], load(inverse + kLanes)) << 8;
    bytes |= rounded(block.sums[r][2], load(inverse + 2 * kLanes)) << 16;
    bytes |= rounded(block.sums[r][3], load(inverse + 3 * kLanes)) << 24;
    store_bits(out + r * out_stride, bytes ^ 0x00800080);
  }
}

template <int64_t kStrips>
REUSE_INLINE void multiply_strips(const float* a, int64_t rows, int64_t depth, const float* panel, int64_t step,
                                  int64_t width, float* out, int64_t out_stride) {
  int64_t r = 0;
  for (; r + kBlockRows <= rows; r += kBlockRows) {
    multiply_block<kBlockRows, kStrips>(a + r * depth, depth, panel, step, width, out + r * out_stride, out_stride);
  }
  for (; r + 3 <= rows; r += 3) {
    multiply_block<3, kStrips>(a + r * depth, depth, panel, step, width, out + r * out_stride, out_stride);
  }
  for (; r < rows; ++r) {
    multiply_block<1, kStrips>(a + r * depth, depth, panel, step, width, out + r * out_stride, out_stride);
  }
}

}  // namespace

void gemm(const float* a, int64_t rows, int64_t depth, const float* panel, int64_t step, int64_t width, float* out,
          int64_t out_stride) {
  // Columns outside, rows inside: a strip of the panel stays in the cache while all rows pass.
  int64_t n = 0;
  for (; n + (kBlockStrips - 1) * kLanes < width; n += kBlockStrips * kLanes) {
    multiply_strips<kBlockStrips>(a, rows, depth, panel + n / kLanes * step, step, width - n, out + n, out_stride);
  }
  for (; n < width; n += kLanes) {
    multiply_strips<1>(a, rows, depth, panel + n / kLanes * step, step, width - n, out + n, out_stride);
  }
}

void gemm_int8(const float* a, int64_t rows, int64_t depth, const float* panel, int64_t width, const float* inverse,
               uint8_t* out, int64_t out_stride) {
  for (int64_t n = 0; n < width; n += kInt8Channels) {
    const float* strips = panel + n * depth;
    int64_t r = 0;
    for (; r + kInt8Rows <= rows; r += kInt8Rows) {
      quantise_block<kInt8Rows>(a + r * depth, depth, strips, inverse, out + r * out_stride + n, out_stride);
    }
    for (; r < rows; ++r)
      quantise_block<1>(a + r * depth, depth, strips, inverse, out + r * out_stride + n, out_stride);
  }
}

}  // namespace REUSE_TARGET
}  // namespace simd
}  // namespace reuse
