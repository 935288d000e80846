// Vectors of kLanes numbers for the innermost loops: one register on AVX-512, two on AVX2, four on SSE and NEON.
// Included only by the sources that are compiled per instruction set.
#pragma once

#include <string.h>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "kernels.h"

#define REUSE_INLINE inline __attribute__((always_inline))
#if defined(__clang__) || __GNUC__ >= 12
#define REUSE_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define REUSE_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (__typeof__((a) < (b))){__VA_ARGS__})
#endif

namespace reuse {
namespace simd {
namespace REUSE_TARGET {
namespace {

// Bytes of a register. Vectors are made of registers one by one: what is wider, compilers keep in memory.
#if defined(__AVX512F__)
constexpr int64_t kPartBytes = 64;
#elif defined(__AVX2__)
constexpr int64_t kPartBytes = 32;
#else
constexpr int64_t kPartBytes = 16;
#endif
constexpr int64_t kParts = kLanes * 4 / kPartBytes;

// 64 bytes of elements. Operators work element by element, also with a number on the right.
template <typename T>
struct Vector {
  typedef T Part __attribute__((vector_size(kPartBytes)));
  Part part[kParts];
};

typedef Vector<float> Lanes;
typedef Vector<int32_t> IntLanes;

#define REUSE_OPERATOR(op)                                                        \
  template <typename T>                                                           \
  REUSE_INLINE Vector<T> operator op(const Vector<T>& a, const Vector<T>& b) {    \
    Vector<T> result;                                                             \
    for (int64_t i = 0; i < kParts; ++i) result.part[i] = a.part[i] op b.part[i]; \
    return result;                                                                \
  }                                                                               \
  template <typename T>                                                           \
  REUSE_INLINE Vector<T> operator op(const Vector<T>& a, T b) {                   \
    Vector<T> result;                                                             \
    for (int64_t i = 0; i < kParts; ++i) result.part[i] = a.part[i] op b;         \
    return result;                                                                \
  }                                                                               \
  template <typename T>                                                           \
  REUSE_INLINE void operator op## = (Vector<T> & a, const Vector<T>& b) {         \
    for (int64_t i = 0; i < kParts; ++i) a.part[i] = a.part[i] op b.part[i];      \
  }
REUSE_OPERATOR(+)
REUSE_OPERATOR(-)
REUSE_OPERATOR(*)
REUSE_OPERATOR(&)
REUSE_OPERATOR(|)
REUSE_OPERATOR(^)
#undef REUSE_OPERATOR

template <typename T>
REUSE_INLINE Vector<T> operator<<(const Vector<T>& a, int bits) {
  Vector<T> result;
  for (int64_t i = 0; i < kParts; ++i) result.part[i] = a.part[i] << bits;
  return result;
}
template <typename T>
REUSE_INLINE Vector<T> operator>>(const Vector<T>& a, int bits) {
  Vector<T> result;
  for (int64_t i = 0; i < kParts; ++i) result.part[i] = a.part[i] >> bits;
  return result;
}

// The same bits as elements of another type.
template <typename To, typename From>
REUSE_INLINE Vector<To> bits_as(const Vector<From>& a) {
  Vector<To> result;
  for (int64_t i = 0; i < kParts; ++i) result.part[i] = reinterpret_cast<typename Vector<To>::Part>(a.part[i]);
  return result;
}

REUSE_INLINE Lanes to_float(const IntLanes& a) {
  Lanes result;
  for (int64_t i = 0; i < kParts; ++i) result.part[i] = __builtin_convertvector(a.part[i], Lanes::Part);
  return result;
}

// Where a < b `then`, elsewhere `otherwise`; for a NaN the latter. And the same for a > b.
REUSE_INLINE Lanes if_below(const Lanes& a, float b, const Lanes& then, const Lanes& otherwise) {
  Lanes result;
  for (int64_t i = 0; i < kParts; ++i) result.part[i] = a.part[i] < b ? then.part[i] : otherwise.part[i];
  return result;
}
REUSE_INLINE Lanes if_above(const Lanes& a, float b, const Lanes& then, const Lanes& otherwise) {
  Lanes result;
  for (int64_t i = 0; i < kParts; ++i) result.part[i] = a.part[i] > b ? then.part[i] : otherwise.part[i];
  return result;
}

// The greater of each element and zero; NaN stays NaN, as in ONNX Runtime's Relu.
REUSE_INLINE Lanes rectify(const Lanes& a) {
#if defined(__AVX512F__)
  return Lanes{{_mm512_maskz_max_ps(0xFFFF, Lanes::Part{}, a.part[0])}};  // of equal or unordered operands the second
#else
  return if_below(a, 0.0f, Lanes{}, a);
#endif
}

// The greater of both, none of which is NaN.
REUSE_INLINE Lanes greater(const Lanes& a, const Lanes& b) {
  Lanes result;
  for (int64_t i = 0; i < kParts; ++i) result.part[i] = a.part[i] > b.part[i] ? a.part[i] : b.part[i];
  return result;
}

// All bits set where a >= b.
REUSE_INLINE IntLanes at_least(const IntLanes& a, int32_t b) {
  IntLanes result;
  for (int64_t i = 0; i < kParts; ++i) result.part[i] = a.part[i] >= b;
  return result;
}

template <typename T>
REUSE_INLINE Vector<T> load_bits(const void* from) {
  Vector<T> value;
  for (int64_t i = 0; i < kParts; ++i) {
    memcpy(&value.part[i], static_cast<const char*>(from) + i * kPartBytes, static_cast<size_t>(kPartBytes));
  }
  return value;
}
REUSE_INLINE Lanes load(const float* from) { return load_bits<float>(from); }
template <typename T>
REUSE_INLINE void store_bits(void* to, const Vector<T>& value) {
  for (int64_t i = 0; i < kParts; ++i) {
    memcpy(static_cast<char*>(to) + i * kPartBytes, &value.part[i], static_cast<size_t>(kPartBytes));
  }
}
REUSE_INLINE void store(float* to, const Lanes& value) { store_bits(to, value); }

// The first `count` lanes only; the others are zero.
REUSE_INLINE Lanes load_first(const float* from, int64_t count) {
  float values[kLanes] = {};
  memcpy(values, from, static_cast<size_t>(count) * sizeof(float));
  return load(values);
}
REUSE_INLINE void store_first(float* to, const Lanes& value, int64_t count) {
  float values[kLanes];
  store(values, value);
  memcpy(to, values, static_cast<size_t>(count) * sizeof(float));
}

// Some neighbouring lanes.
#if defined(__AVX512F__)
typedef __mmask16 Selection;
#else
typedef IntLanes Selection;
#endif

// Lanes begin ... end - 1, as far as they exist.
REUSE_INLINE Selection select_lanes(int64_t begin, int64_t end) {
  const int64_t first = begin < 0 ? 0 : begin, last = end > kLanes ? kLanes : end;
#if defined(__AVX512F__)
  return static_cast<Selection>((1u << last) - (1u << first));
#else
  int32_t bits[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) bits[i] = i >= first && i < last ? -1 : 0;
  return load_bits<int32_t>(bits);
#endif
}

// The selected lanes from memory, the others from `otherwise`. All of the memory must be readable.
REUSE_INLINE Lanes load_selected(const Lanes& otherwise, const float* from, const Selection& lanes) {
#if defined(__AVX512F__)
  return Lanes{{_mm512_mask_loadu_ps(otherwise.part[0], lanes, from)}};
#else
  const IntLanes kept = bits_as<int32_t>(otherwise);
  return bits_as<float>(kept ^ ((kept ^ load_bits<int32_t>(from)) & lanes));
#endif
}

#if defined(__AVX512F__)
// Lane j of row i becomes lane i of row j. Four rounds, each pairing rows i and i + distance: the first two within
// 128-bit parts, where shuffles are cheapest, the last two move whole parts.
REUSE_INLINE void transpose(Lanes squares[kLanes]) {
  typedef Lanes::Part Part;
  Part rows[kLanes], a[kLanes], b[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) rows[i] = squares[i].part[0];
  for (int64_t i = 0; i < 16; i += 2) {
    a[i] = REUSE_SHUFFLE(rows[i], rows[i + 1], 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
    a[i + 1] = REUSE_SHUFFLE(rows[i], rows[i + 1], 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  }
  for (int64_t i = 0; i < 16; i += 4) {
    for (int64_t k = 0; k < 2; ++k) {
      const Part low = a[i + k], high = a[i + k + 2];
      b[i + 2 * k] = REUSE_SHUFFLE(low, high, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
      b[i + 2 * k + 1] = REUSE_SHUFFLE(low, high, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    }
  }
  // b[4 g + c] holds, in part q, columns 4 q + c of rows 4 g ... 4 g + 3.
  for (int64_t c = 0; c < 4; ++c) {
    const Part g0 = b[c], g1 = b[c + 4], g2 = b[c + 8], g3 = b[c + 12];
    const Part x = REUSE_SHUFFLE(g0, g1, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);    // parts 0, 2
    const Part y = REUSE_SHUFFLE(g0, g1, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);  // parts 1, 3
    const Part z = REUSE_SHUFFLE(g2, g3, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
    const Part w = REUSE_SHUFFLE(g2, g3, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    rows[c] = REUSE_SHUFFLE(x, z, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
    rows[c + 8] = REUSE_SHUFFLE(x, z, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    rows[c + 4] = REUSE_SHUFFLE(y, w, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
    rows[c + 12] = REUSE_SHUFFLE(y, w, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  }
  for (int64_t i = 0; i < kLanes; ++i) squares[i].part[0] = rows[i];
}
#elif defined(__AVX2__)
// The same for 8 rows of a register each.
REUSE_INLINE void transpose_eight(Lanes::Part rows[8]) {
  typedef Lanes::Part Part;
  Part a[8], b[8];
  for (int64_t i = 0; i < 8; i += 2) {
    a[i] = REUSE_SHUFFLE(rows[i], rows[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    a[i + 1] = REUSE_SHUFFLE(rows[i], rows[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  for (int64_t i = 0; i < 8; i += 4) {
    for (int64_t k = 0; k < 2; ++k) {
      b[i + 2 * k] = REUSE_SHUFFLE(a[i + k], a[i + k + 2], 0, 1, 8, 9, 4, 5, 12, 13);
      b[i + 2 * k + 1] = REUSE_SHUFFLE(a[i + k], a[i + k + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  }
  for (int64_t c = 0; c < 4; ++c) {
    rows[c] = REUSE_SHUFFLE(b[c], b[c + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    rows[c + 4] = REUSE_SHUFFLE(b[c], b[c + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

// Lane j of row i becomes lane i of row j, by squares of 8x8.
REUSE_INLINE void transpose(Lanes squares[kLanes]) {
  Lanes result[kLanes];
  for (int64_t i = 0; i < 2; ++i) {
    for (int64_t j = 0; j < 2; ++j) {
      Lanes::Part rows[8];
      for (int64_t k = 0; k < 8; ++k) rows[k] = squares[8 * i + k].part[j];
      transpose_eight(rows);
      for (int64_t k = 0; k < 8; ++k) result[8 * j + k].part[i] = rows[k];
    }
  }
  for (int64_t i = 0; i < kLanes; ++i) squares[i] = result[i];
}
#else
// Lane j of row i becomes lane i of row j, by squares of 4x4.
REUSE_INLINE void transpose(Lanes squares[kLanes]) {
  typedef float Quad __attribute__((vector_size(16)));
  float from[kLanes][kLanes], to[kLanes][kLanes];
  for (int64_t i = 0; i < kLanes; ++i) store(from[i], squares[i]);
  for (int64_t i = 0; i < kLanes; i += 4) {
    for (int64_t j = 0; j < kLanes; j += 4) {
      Quad q[4];
      for (int64_t k = 0; k < 4; ++k) memcpy(&q[k], &from[i + k][j], sizeof(Quad));
      const Quad a = REUSE_SHUFFLE(q[0], q[1], 0, 4, 1, 5), b = REUSE_SHUFFLE(q[0], q[1], 2, 6, 3, 7);
      const Quad c = REUSE_SHUFFLE(q[2], q[3], 0, 4, 1, 5), d = REUSE_SHUFFLE(q[2], q[3], 2, 6, 3, 7);
      const Quad columns[4] = {REUSE_SHUFFLE(a, c, 0, 1, 4, 5), REUSE_SHUFFLE(a, c, 2, 3, 6, 7),
                               REUSE_SHUFFLE(b, d, 0, 1, 4, 5), REUSE_SHUFFLE(b, d, 2, 3, 6, 7)};
      for (int64_t k = 0; k < 4; ++k) memcpy(&to[j + k][i], &columns[k], sizeof(Quad));
    }
  }
  for (int64_t i = 0; i < kLanes; ++i) squares[i] = load(to[i]);
}
#endif

}  // namespace
}  // namespace REUSE_TARGET
}  // namespace simd
}  // namespace reuse
