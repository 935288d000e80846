// Loops over bytes: packing of vectors, their products with weights in int32, and the way of sums to bytes.
//
// Sums are meant modulo 2^32, as instructions add them. Plain loops add unsigned numbers, whose overflow is defined.
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "lanes.h"
#include "table_kernels.h"

namespace reuse {
namespace simd {
namespace REUSE_TARGET {
namespace {

// A register of bytes, in quarters of 16.
typedef uint8_t Bytes __attribute__((vector_size(kPartBytes)));
typedef uint64_t Words64 __attribute__((vector_size(kPartBytes)));
constexpr int64_t kQuarter = 16, kQuarters = kPartBytes / kQuarter;

// Of each quarter the first or the last 8 bytes of `a` and `b` in turn.
REUSE_INLINE Bytes interleave_low(Bytes a, Bytes b) {
#if defined(__AVX512BW__)
  return reinterpret_cast<Bytes>(_mm512_unpacklo_epi8(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX2__)
  return reinterpret_cast<Bytes>(_mm256_unpacklo_epi8(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#else
  return REUSE_SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
#endif
}
REUSE_INLINE Bytes interleave_high(Bytes a, Bytes b) {
#if defined(__AVX512BW__)
  return reinterpret_cast<Bytes>(_mm512_unpackhi_epi8(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX2__)
  return reinterpret_cast<Bytes>(_mm256_unpackhi_epi8(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#else
  return REUSE_SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#endif
}

// Byte j of row i becomes byte i of row j, in each quarter. A round takes the first bit of a byte's row to the end of
// its column, and that of its column to the end of its row; four of them exchange the two.
REUSE_INLINE void transpose_quarters(Bytes rows[kQuarter]) {
  for (int64_t round = 0; round < 4; ++round) {
    Bytes next[kQuarter];
    for (int64_t i = 0; i < kQuarter / 2; ++i) {
      next[2 * i] = interleave_low(rows[i], rows[i + kQuarter / 2]);
      next[2 * i + 1] = interleave_high(rows[i], rows[i + kQuarter / 2]);
    }
    for (int64_t i = 0; i < kQuarter; ++i) rows[i] = next[i];
  }
}

REUSE_INLINE Bytes load_bytes(const uint8_t* from) {
  Bytes value;
  memcpy(&value, from, sizeof value);
  return value;
}

// Writes the quarters of a register `step` bytes apart.
REUSE_INLINE void store_quarters(uint8_t* to, int64_t step, Bytes value) {
#if defined(__AVX512F__)
  const __m512i all = reinterpret_cast<__m512i>(value);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_maskz_extracti32x4_epi32(0xF, all, 0));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to + step), _mm512_maskz_extracti32x4_epi32(0xF, all, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 2 * step), _mm512_maskz_extracti32x4_epi32(0xF, all, 2));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 3 * step), _mm512_maskz_extracti32x4_epi32(0xF, all, 3));
#elif defined(__AVX2__)
  const __m256i all = reinterpret_cast<__m256i>(value);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(all));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to + step), _mm256_extracti128_si256(all, 1));
#else
  static_cast<void>(step);
  memcpy(to, &value, sizeof value);
#endif
}

// A register of quarters that are `step` bytes apart.
REUSE_INLINE Bytes load_quarters(const uint8_t* from, int64_t step) {
#if defined(__AVX512F__)
  const auto quarter = [&](int64_t q) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + q * step)); };
  // Each goes from memory to its place; one load of all four would wait until they are out of the store buffer.
  __m512i all = _mm512_maskz_broadcast_i32x4(0xFFFF, quarter(0));
  all = _mm512_mask_broadcast_i32x4(all, 0x00F0, quarter(1));
  all = _mm512_mask_broadcast_i32x4(all, 0x0F00, quarter(2));
  return reinterpret_cast<Bytes>(_mm512_mask_broadcast_i32x4(all, 0xF000, quarter(3)));
#elif defined(__AVX2__)
  const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + step));
  return reinterpret_cast<Bytes>(_mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1));
#else
  static_cast<void>(step);
  return load_bytes(from);
#endif
}

constexpr uint64_t kFoldStart = 0x9E3779B97F4A7C15, kFoldFactor = 0xBF58476D1CE4E5B9;

}  // namespace

// A row's words of 8 bytes at even and those at odd places are folded on their own, then together.
void pack_bytes(const BytePlanes& planes, uint8_t* rows, int64_t row_bytes, int64_t* codes) {
  for (int64_t first = 0; first < kPackedPixels; first += kPartBytes) {
    Words64 folded[kQuarter];
    for (int64_t i = 0; i < kQuarter; ++i) folded[i] = Words64{} + kFoldStart;
    uint8_t* const target = rows + first * row_bytes;
    for (int64_t channel = 0; channel < row_bytes; channel += kQuarter) {
      Bytes part[kQuarter];
      for (int64_t i = 0; i < kQuarter; ++i) {
        const bool inside = channel + i < planes.channels;
        const uint8_t* source = planes.values + (channel + i) * planes.plane + first;
        part[i] = inside ? load_bytes(source) ^ planes.flip : Bytes{};
        if (inside) __builtin_prefetch(source + kPackedPixels);
      }
      transpose_quarters(part);
      for (int64_t i = 0; i < kQuarter; ++i) {
        store_quarters(target + i * row_bytes + channel, kQuarter * row_bytes, part[i]);
        const Words64 mixed = (folded[i] ^ reinterpret_cast<Words64>(part[i])) * kFoldFactor;
        folded[i] = mixed ^ (mixed >> 29);
      }
    }
    for (int64_t i = 0; i < kQuarter; ++i) {
      for (int64_t q = 0; q < kQuarters; ++q) {
        const uint64_t even = folded[i][2 * q], odd = folded[i][2 * q + 1];
        const uint64_t mixed = ((even * kFoldFactor) ^ odd) * kFoldStart;
        codes[first + q * kQuarter + i] = static_cast<int64_t>(mixed ^ (mixed >> 32));
      }
    }
  }
}

namespace {

#if defined(__AVX2__)
// Sums of 16 columns of one row: quads of columns, with pairs of products in each of two numbers per column.
REUSE_INLINE void store_pairs(const __m256i* pairs, const int32_t* start, int32_t* out) {
  for (int64_t half = 0; half < 2; ++half) {
    const __m256i mixed = _mm256_hadd_epi32(pairs[2 * half], pairs[2 * half + 1]);
    const __m256i sums = _mm256_permute4x64_epi64(mixed, 0xD8);
    const __m256i begin = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(start + 8 * half));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 8 * half), _mm256_add_epi32(sums, begin));
  }
}

// Bytes are widened to 16 bits before they are multiplied: sums of two products of bytes would saturate there.
template <int64_t kRows>
REUSE_INLINE void multiply_rows(const uint8_t* rows, int64_t row_bytes, const int8_t* strip, const int32_t* start,
                                int32_t* out, int64_t out_stride) {
  __m256i sums[kRows][4];
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t i = 0; i < 4; ++i) sums[r][i] = _mm256_setzero_si256();
  }
  for (int64_t d = 0; d < row_bytes; d += 4) {
    __m256i weights[4];
    for (int64_t i = 0; i < 4; ++i) {
      weights[i] = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(strip + d * kLanes + 16 * i)));
    }
    for (int64_t r = 0; r < kRows; ++r) {
      int32_t quad;
      memcpy(&quad, rows + r * row_bytes + d, sizeof quad);
      const __m256i values = _mm256_cvtepu8_epi16(_mm_set1_epi32(quad));
      for (int64_t i = 0; i < 4; ++i) {
        sums[r][i] = _mm256_add_epi32(sums[r][i], _mm256_madd_epi16(values, weights[i]));
      }
    }
  }
  for (int64_t r = 0; r < kRows; ++r) store_pairs(sums[r], start, out + r * out_stride);
}
#else
template <int64_t kRows>
REUSE_INLINE void multiply_rows(const uint8_t* rows, int64_t row_bytes, const int8_t* strip, const int32_t* start,
                                int32_t* out, int64_t out_stride) {
  for (int64_t r = 0; r < kRows; ++r) {
    uint32_t sums[kLanes];
    for (int64_t n = 0; n < kLanes; ++n) sums[n] = static_cast<uint32_t>(start[n]);
    const uint8_t* row = rows + r * row_bytes;
    for (int64_t d = 0; d < row_bytes; d += 4) {
      const int8_t* quads = strip + d * kLanes;
      for (int64_t n = 0; n < kLanes; ++n) {
        int32_t sum = 0;
        for (int64_t i = 0; i < 4; ++i) sum += row[d + i] * quads[4 * n + i];
        sums[n] += static_cast<uint32_t>(sum);
      }
    }
    for (int64_t n = 0; n < kLanes; ++n) out[r * out_stride + n] = static_cast<int32_t>(sums[n]);
  }
}
#endif

}  // namespace

void multiply_bytes(const ByteProduct& product, int32_t* out, int64_t out_stride) {
  constexpr int64_t kRows = 2;
  for (int64_t s = 0; s < product.strips; ++s) {
    const int8_t* strip = product.panel + s * product.strip_step;
    const int32_t* start = product.start + s * product.start_step;
    int64_t r = 0;
    for (; r + kRows <= product.count; r += kRows) {
      multiply_rows<kRows>(product.rows + r * product.row_bytes, product.row_bytes, strip, start,
                           out + r * out_stride + s * kLanes, out_stride);
    }
    if (r < product.count) {
      multiply_rows<1>(product.rows + r * product.row_bytes, product.row_bytes, strip, start,
                       out + r * out_stride + s * kLanes, out_stride);
    }
  }
}

void subtract_zero_points(const uint8_t* rows, int64_t row_bytes, int64_t count, const int32_t* zero_points,
                          int64_t channels, int64_t width, int32_t* out, int64_t out_stride) {
  for (int64_t r = 0; r < count; ++r) {
    uint32_t sum = 0;
    for (int64_t d = 0; d < row_bytes; ++d) sum += rows[r * row_bytes + d];
    for (int64_t n = 0; n < width; n += channels) {
      int32_t* const target = out + r * out_stride + n;
      for (int64_t c = 0; c < channels; c += kLanes) {
        store_bits(target + c, load_bits<uint32_t>(target + c) - load_bits<uint32_t>(zero_points + c) * sum);
      }
    }
  }
}

namespace {

// 16 sums as bytes. The limits are such that bytes hold the result.
REUSE_INLINE void requantise(const int32_t* sums, const Lanes& scale, const Requantisation& how, uint8_t* out) {
#if defined(__AVX512F__)
  // With masks, as compilers take what the other forms leave undefined for a mistake.
  constexpr __mmask16 kAll = 0xFFFF;
  const Lanes scaled = to_float(load_bits<int32_t>(sums)) * scale;
  const __m512 above = _mm512_maskz_max_ps(kAll, scaled.part[0], _mm512_set1_ps(how.low));
  const __m512 limited = _mm512_maskz_min_ps(kAll, above, _mm512_set1_ps(how.high));
  const IntLanes rounded = {{reinterpret_cast<IntLanes::Part>(_mm512_maskz_cvtps_epi32(kAll, limited))}};
  const __m512i shifted = reinterpret_cast<__m512i>((rounded + how.zero_point).part[0]);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_maskz_cvtepi32_epi8(kAll, shifted));
#else
  // Adding 1.5 * 2^23 rounds to the nearest integer, ties to even, whose last bits are those of the sum.
  constexpr float kRounding = 12582912.0f;
  const Lanes scaled = to_float(load_bits<int32_t>(sums)) * scale;
  const Lanes low = Lanes{} + how.low, high = Lanes{} + how.high;
  const Lanes above = if_below(scaled, how.low, low, scaled), limited = if_above(above, how.high, high, above);
  int32_t bits[kLanes];
  store_bits(bits, bits_as<int32_t>(limited + kRounding) + how.zero_point);
  for (int64_t i = 0; i < kLanes; ++i) out[i] = static_cast<uint8_t>(bits[i]);
#endif
}

}  // namespace

void write_bytes(const int32_t* sums, int64_t stride, int64_t pixels, int64_t channels, const Requantisation& how,
                 uint8_t* y, int64_t plane) {
  for (int64_t c = 0; c < channels; c += kLanes) {
    const int64_t count = channels - c < kLanes ? channels - c : kLanes;
    const Lanes scale = load(how.scales + c);
    alignas(64) uint8_t rows[kPackedPixels * kLanes] = {};  // whole registers are read
    for (int64_t p = 0; p < pixels; ++p) requantise(sums + p * stride + c, scale, how, rows + p * kLanes);
    for (int64_t first = 0; first < pixels; first += kPartBytes) {
      // Register i has, in quarter q, pixel 16 q + i.
      Bytes part[kQuarter];
      for (int64_t i = 0; i < kQuarter; ++i) part[i] = load_quarters(rows + (first + i) * kLanes, kQuarter * kLanes);
      transpose_quarters(part);
      const int64_t some = pixels - first < kPartBytes ? pixels - first : kPartBytes;
      for (int64_t i = 0; i < count; ++i) {
        uint8_t* const target = y + (c + i) * plane + first;
        if (some == kPartBytes) {
          memcpy(target, &part[i], sizeof part[i]);
        } else {
          memcpy(target, &part[i], static_cast<size_t>(some));
        }
      }
    }
  }
}

}  // namespace REUSE_TARGET
}  // namespace simd
}  // namespace reuse
