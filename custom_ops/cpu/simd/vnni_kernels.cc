// The product of bytes for AVX-512 with VNNI, whose instruction adds four products of an unsigned and a signed byte to
// an int32, without saturation.
#include <immintrin.h>

#include "lanes.h"

namespace reuse {
namespace simd {
namespace REUSE_TARGET {

void multiply_bytes(const ByteProduct& product, int32_t* out, int64_t out_stride);

namespace {

// The product of some rows and strips, as many as the registers hold sums of.
template <int64_t kRows, int64_t kStrips>
REUSE_INLINE void multiply_block(const ByteProduct& product, int64_t row, int64_t strip, int32_t* out,
                                 int64_t out_stride) {
  const uint8_t* const* vectors = product.rows + row * product.vectors;
  const int8_t* panel = product.panel + strip * product.strip_step;
  __m512i sums[kRows][kStrips];
  for (int64_t s = 0; s < kStrips; ++s) {
    const __m512i start = _mm512_loadu_si512(product.start + (strip + s) * product.start_step);
    for (int64_t r = 0; r < kRows; ++r) sums[r][s] = start;
  }
  for (int64_t v = 0; v < product.vectors; ++v, ++vectors, panel += product.vector_step) {
    const uint8_t* rows[kRows];
    for (int64_t r = 0; r < kRows; ++r) rows[r] = vectors[r * product.vectors];
    for (int64_t d = 0; d < product.vector_bytes; d += 4) {
      __m512i weights[kStrips];
      for (int64_t s = 0; s < kStrips; ++s) {
        weights[s] = _mm512_loadu_si512(panel + s * product.strip_step + d * kLanes);
      }
      for (int64_t r = 0; r < kRows; ++r) {
        int32_t quad;
        memcpy(&quad, rows[r] + d, sizeof quad);
        const __m512i values = _mm512_set1_epi32(quad);
        for (int64_t s = 0; s < kStrips; ++s) sums[r][s] = _mm512_dpbusd_epi32(sums[r][s], values, weights[s]);
      }
    }
  }
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t s = 0; s < kStrips; ++s) {
      _mm512_storeu_si512(out + (row + r) * out_stride + (strip + s) * kLanes, sums[r][s]);
    }
  }
}

// The product of the last rows, fewer than kRows, in one piece: each piece reads all weights of the strips.
template <int64_t kRows, int64_t kStrips>
REUSE_INLINE void multiply_rest(const ByteProduct& product, int64_t row, int64_t strip, int32_t* out,
                                int64_t out_stride) {
  if constexpr (kRows > 1) {
    if (product.count - row < kRows - 1) return multiply_rest<kRows - 1, kStrips>(product, row, strip, out, out_stride);
    multiply_block<kRows - 1, kStrips>(product, row, strip, out, out_stride);
  }
}

template <int64_t kRows, int64_t kStrips>
REUSE_INLINE void multiply_strips(const ByteProduct& product, int64_t strip, int32_t* out, int64_t out_stride) {
  int64_t row = 0;
  for (; row + kRows <= product.count; row += kRows) {
    multiply_block<kRows, kStrips>(product, row, strip, out, out_stride);
  }
  if (row < product.count) multiply_rest<kRows, kStrips>(product, row, strip, out, out_stride);
}

}  // namespace

void multiply_bytes(const ByteProduct& product, int32_t* out, int64_t out_stride) {
  int64_t strip = 0;
  for (; strip + 4 <= product.strips; strip += 4) multiply_strips<6, 4>(product, strip, out, out_stride);
  for (; strip + 3 <= product.strips; strip += 3) multiply_strips<8, 3>(product, strip, out, out_stride);
  for (; strip + 2 <= product.strips; strip += 2) multiply_strips<8, 2>(product, strip, out, out_stride);
  for (; strip < product.strips; ++strip) multiply_strips<12, 1>(product, strip, out, out_stride);
}

}  // namespace REUSE_TARGET
}  // namespace simd
}  // namespace reuse
