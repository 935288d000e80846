// Loops over bytes: products of vectors with weights in int32, sums of products, and the way of sums to bytes.
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
REUSE_INLINE void multiply_rows(const ByteProduct& product, const uint8_t* const* vectors, const int8_t* strip,
                                const int32_t* start, int32_t* out, int64_t out_stride) {
  __m256i sums[kRows][4];
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t i = 0; i < 4; ++i) sums[r][i] = _mm256_setzero_si256();
  }
  for (int64_t v = 0; v < product.vectors; ++v, ++vectors, strip += product.vector_step) {
    for (int64_t d = 0; d < product.vector_bytes; d += 4) {
      __m256i weights[4];
      for (int64_t i = 0; i < 4; ++i) {
        const int8_t* const sixteen = strip + d * kLanes + 16 * i;
        weights[i] = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(sixteen)));
      }
      for (int64_t r = 0; r < kRows; ++r) {
        int32_t quad;
        memcpy(&quad, vectors[r * product.vectors] + d, sizeof quad);
        const __m256i values = _mm256_cvtepu8_epi16(_mm_set1_epi32(quad));
        for (int64_t i = 0; i < 4; ++i) {
          sums[r][i] = _mm256_add_epi32(sums[r][i], _mm256_madd_epi16(values, weights[i]));
        }
      }
    }
  }
  for (int64_t r = 0; r < kRows; ++r) store_pairs(sums[r], start, out + r * out_stride);
}
#else
template <int64_t kRows>
REUSE_INLINE void multiply_rows(const ByteProduct& product, const uint8_t* const* vectors, const int8_t* strip,
                                const int32_t* start, int32_t* out, int64_t out_stride) {
  for (int64_t r = 0; r < kRows; ++r) {
    uint32_t sums[kLanes];
    for (int64_t n = 0; n < kLanes; ++n) sums[n] = static_cast<uint32_t>(start[n]);
    for (int64_t v = 0; v < product.vectors; ++v) {
      const uint8_t* const vector = vectors[r * product.vectors + v];
      for (int64_t d = 0; d < product.vector_bytes; d += 4) {
        const int8_t* quads = strip + v * product.vector_step + d * kLanes;
        for (int64_t n = 0; n < kLanes; ++n) {
          int32_t sum = 0;
          for (int64_t i = 0; i < 4; ++i) sum += vector[d + i] * quads[4 * n + i];
          sums[n] += static_cast<uint32_t>(sum);
        }
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
    int32_t* const target = out + s * kLanes;
    int64_t r = 0;
    for (; r + kRows <= product.count; r += kRows) {
      multiply_rows<kRows>(product, product.rows + r * product.vectors, strip, start, target + r * out_stride,
                           out_stride);
    }
    if (r < product.count) {
      multiply_rows<1>(product, product.rows + r * product.vectors, strip, start, target + r * out_stride, out_stride);
    }
  }
}

void subtract_zero_points(const ByteProduct& product, const int32_t* zero_points, int64_t channels, int32_t* out,
                          int64_t out_stride) {
  for (int64_t r = 0; r < product.count; ++r) {
    uint32_t sum = 0;
    for (int64_t v = 0; v < product.vectors; ++v) {
      const uint8_t* const vector = product.rows[r * product.vectors + v];
      for (int64_t d = 0; d < product.vector_bytes; ++d) sum += vector[d];
    }
    for (int64_t n = 0; n < product.strips * kLanes; n += channels) {
      int32_t* const target = out + r * out_stride + n;
      for (int64_t c = 0; c < channels; c += kLanes) {
        store_bits(target + c, load_bits<uint32_t>(target + c) - load_bits<uint32_t>(zero_points + c) * sum);
      }
    }
  }
}

void keep_largest(const int32_t* products, int64_t count, int64_t width, float* largest) {
  constexpr int64_t kVectors = kStaticChannels / kLanes;
  for (int64_t n = 0; n < width; n += kStaticChannels) {
    Lanes own[kVectors];
    for (int64_t v = 0; v < kVectors; ++v) own[v] = load(largest + n + v * kLanes);
    for (int64_t r = 0; r < count; ++r) {
      for (int64_t v = 0; v < kVectors; ++v) {
        const Lanes product = to_float(load_bits<int32_t>(products + r * width + n + v * kLanes));
        own[v] = greater(own[v], bits_as<float>(bits_as<int32_t>(product) & 0x7FFFFFFF));
      }
    }
    for (int64_t v = 0; v < kVectors; ++v) store(largest + n + v * kLanes, own[v]);
  }
}

// Adding 1.5 * 2^23 rounds to the nearest integer, ties to even, whose last byte is that of the sum's bits. Four
// vectors of channels become one of bytes; adding kStaticBias to a byte changes its first bit.
void write_entries(const int32_t* products, int64_t taps, int64_t columns, const float* inverse, uint8_t* row) {
  constexpr float kRounding = 12582912.0f;
  constexpr uint32_t kByte = 0xFF, kBiases = kStaticBias | kStaticBias << 16;
  constexpr int64_t kVectors = kStaticChannels / kLanes, kTapsAtOnce = 3;
  Lanes scales[kVectors];
  for (int64_t v = 0; v < kVectors; ++v) scales[v] = load(inverse + v * kLanes);
  for (int64_t tap = 0; tap < taps; ++tap) {
    Vector<uint32_t> words{};
    words = words ^ (tap % columns % kTapsAtOnce == 0 ? kBiases : 0u);
    for (int64_t v = 0; v < kVectors; ++v) {
      const Lanes product = to_float(load_bits<int32_t>(products + tap * kStaticChannels + v * kLanes));
      const Vector<uint32_t> entry = bits_as<uint32_t>(product * scales[v] + kRounding) & kByte;
      words = words ^ (entry << static_cast<int>(8 * v));
    }
    store_bits(row + tap * kStaticChannels, words);
  }
}

namespace {

// kVectors of each window's sums, from `channel` on, in registers.
template <int64_t kVectors>
REUSE_INLINE void add_strip(const WindowTables& tables, const int32_t* ids, int64_t stride, int64_t windows,
                            const int32_t* start, int32_t* sums, int64_t channel) {
  for (int64_t w = 0; w < windows; ++w) {
    int32_t* const target = sums + w * tables.channels + channel;
    const int32_t* const from = start == nullptr ? target : start + channel;
    Vector<uint32_t> own[kVectors];
    for (int64_t v = 0; v < kVectors; ++v) own[v] = load_bits<uint32_t>(from + v * kLanes);
    const int32_t* const window = ids + w * stride;
    for (int64_t t = 0; t < tables.count; ++t) {
      const int32_t* const row = tables.tables[t] + window[t] * tables.row_stride + channel;
      for (int64_t v = 0; v < kVectors; ++v) own[v] += load_bits<uint32_t>(row + v * kLanes);
    }
    for (int64_t v = 0; v < kVectors; ++v) store_bits(target + v * kLanes, own[v]);
  }
}

}  // namespace

void add_windows(const WindowTables& tables, const int32_t* ids, int64_t stride, int64_t windows, const int32_t* start,
                 int32_t* sums) {
  int64_t channel = 0;
  for (; channel + 4 * kLanes <= tables.channels; channel += 4 * kLanes) {
    add_strip<4>(tables, ids, stride, windows, start, sums, channel);
  }
  for (; channel + 2 * kLanes <= tables.channels; channel += 2 * kLanes) {
    add_strip<2>(tables, ids, stride, windows, start, sums, channel);
  }
  for (; channel < tables.channels; channel += kLanes) {
    add_strip<1>(tables, ids, stride, windows, start, sums, channel);
  }
}

namespace {

// 16 numbers as bytes. The limits are such that bytes hold the result.
REUSE_INLINE void store_rounded(const Lanes& scaled, const ByteLimits& limits, uint8_t* out) {
#if defined(__AVX512F__)
  // With masks, as compilers take what the other forms leave undefined for a mistake.
  constexpr __mmask16 kAll = 0xFFFF;
  const __m512 above = _mm512_maskz_max_ps(kAll, scaled.part[0], _mm512_set1_ps(limits.low));
  const __m512 limited = _mm512_maskz_min_ps(kAll, above, _mm512_set1_ps(limits.high));
  const IntLanes rounded = {{reinterpret_cast<IntLanes::Part>(_mm512_maskz_cvtps_epi32(kAll, limited))}};
  const __m512i shifted = reinterpret_cast<__m512i>((rounded + limits.zero_point).part[0]);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_maskz_cvtepi32_epi8(kAll, shifted));
#else
  // Adding 1.5 * 2^23 rounds to the nearest integer, ties to even, whose last bits are those of the sum.
  constexpr float kRounding = 12582912.0f;
  const Lanes low = Lanes{} + limits.low, high = Lanes{} + limits.high;
  const Lanes above = if_below(scaled, limits.low, low, scaled), limited = if_above(above, limits.high, high, above);
  int32_t bits[kLanes];
  store_bits(bits, bits_as<int32_t>(limited + kRounding) + limits.zero_point);
  for (int64_t i = 0; i < kLanes; ++i) out[i] = static_cast<uint8_t>(bits[i]);
#endif
}

// Calls write(first channel)(sums, target) for each 16 sums of a window; those of part of a vector go to memory of our
// own first. Window w goes to place_of(w).
template <typename Sum, typename T, typename PlaceOf, typename Write>
REUSE_INLINE void write_windows(const Sum* sums, int64_t stride, int64_t windows, int64_t channels,
                                const PlaceOf& place_of, T* y, int64_t y_stride, const Write& write) {
  int64_t c = 0;
  for (; c + kLanes <= channels; c += kLanes) {
    const auto own = write(c);
    for (int64_t w = 0; w < windows; ++w) own(sums + w * stride + c, y + place_of(w) * y_stride + c);
  }
  if (c == channels) return;
  const auto own = write(c);
  for (int64_t w = 0; w < windows; ++w) {
    T part[kLanes];
    own(sums + w * stride + c, part);
    memcpy(y + place_of(w) * y_stride + c, part, static_cast<size_t>(channels - c) * sizeof(T));
  }
}

}  // namespace

void write_bytes(const int32_t* sums, int64_t stride, int64_t windows, int64_t channels, const Requantisation& how,
                 const int32_t* places, uint8_t* y, int64_t y_stride) {
  write_windows(
      sums, stride, windows, channels, [=](int64_t w) { return places[w]; }, y, y_stride,
      [&](int64_t c) {
        const Lanes scale = load(how.scales + c);
        return [=](const int32_t* own, uint8_t* out) {
          store_rounded(to_float(load_bits<int32_t>(own)) * scale, how.limits, out);
        };
      });
}

void write_quantised(const float* sums, int64_t stride, int64_t pixels, int64_t channels, const float* bias,
                     float inverse, const ByteLimits& limits, uint8_t* y, int64_t y_stride) {
  write_windows(
      sums, stride, pixels, channels, [](int64_t p) { return p; }, y, y_stride,
      [&](int64_t c) {
        const Lanes own_bias = load(bias + c);
        return [=](const float* own, uint8_t* out) { store_rounded((load(own) + own_bias) * inverse, limits, out); };
      });
}

void write_floats(const int32_t* sums, int64_t stride, int64_t windows, int64_t channels, const float* scales,
                  const float* bias, const int32_t* places, float* y, int64_t y_stride) {
  write_windows(
      sums, stride, windows, channels, [=](int64_t w) { return places[w]; }, y, y_stride,
      [&](int64_t c) {
        const Lanes scale = load(scales + c), own_bias = load(bias + c);
        return
            [=](const int32_t* own, float* out) { store(out, to_float(load_bits<int32_t>(own)) * scale + own_bias); };
      });
}

}  // namespace REUSE_TARGET
}  // namespace simd
}  // namespace reuse
