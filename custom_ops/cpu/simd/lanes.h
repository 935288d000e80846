// Vectors of kLanes numbers for the innermost loops: one register on AVX-512, two on AVX2, four on SSE and NEON.
// Included only by the sources that are compiled per instruction set.
#pragma once

#include <string.h>

#include "kernels.h"

#define REUSE_INLINE inline __attribute__((always_inline))
#if defined(__clang__) || __GNUC__ >= 12
#define REUSE_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define REUSE_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (IntLanes){__VA_ARGS__})
#endif

namespace reuse {
namespace simd {
namespace REUSE_TARGET {
namespace {

typedef float Lanes __attribute__((vector_size(kLanes * sizeof(float)), aligned(4)));
typedef int32_t IntLanes __attribute__((vector_size(kLanes * sizeof(int32_t)), aligned(4)));

REUSE_INLINE Lanes load(const float* from) {
  Lanes value;
  memcpy(&value, from, sizeof(Lanes));
  return value;
}
REUSE_INLINE void store(float* to, const Lanes& value) { memcpy(to, &value, sizeof(Lanes)); }

// The first `count` lanes only; the others are zero.
REUSE_INLINE Lanes load_first(const float* from, int64_t count) {
  Lanes value{};
  memcpy(&value, from, static_cast<size_t>(count) * sizeof(float));
  return value;
}
REUSE_INLINE void store_first(float* to, const Lanes& value, int64_t count) {
  memcpy(to, &value, static_cast<size_t>(count) * sizeof(float));
}

// Lane j of row i becomes lane i of row j. Four rounds, each pairing rows i and i + distance: the first two within
// 128-bit parts, where shuffles are cheapest, the last two move whole parts.
REUSE_INLINE void transpose(Lanes rows[kLanes]) {
  Lanes a[kLanes], b[kLanes];
  for (int64_t i = 0; i < 16; i += 2) {
    a[i] = REUSE_SHUFFLE(rows[i], rows[i + 1], 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
    a[i + 1] = REUSE_SHUFFLE(rows[i], rows[i + 1], 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  }
  for (int64_t i = 0; i < 16; i += 4) {
    for (int64_t k = 0; k < 2; ++k) {
      const Lanes low = a[i + k], high = a[i + k + 2];
      b[i + 2 * k] = REUSE_SHUFFLE(low, high, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
      b[i + 2 * k + 1] = REUSE_SHUFFLE(low, high, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    }
  }
  // b[4 g + c] holds, in part q, columns 4 q + c of rows 4 g ... 4 g + 3.
  for (int64_t c = 0; c < 4; ++c) {
    const Lanes g0 = b[c], g1 = b[c + 4], g2 = b[c + 8], g3 = b[c + 12];
    const Lanes x = REUSE_SHUFFLE(g0, g1, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);    // parts 0, 2
    const Lanes y = REUSE_SHUFFLE(g0, g1, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);  // parts 1, 3
    const Lanes z = REUSE_SHUFFLE(g2, g3, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
    const Lanes w = REUSE_SHUFFLE(g2, g3, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    rows[c] = REUSE_SHUFFLE(x, z, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
    rows[c + 8] = REUSE_SHUFFLE(x, z, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    rows[c + 4] = REUSE_SHUFFLE(y, w, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
    rows[c + 12] = REUSE_SHUFFLE(y, w, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  }
}

}  // namespace
}  // namespace REUSE_TARGET
}  // namespace simd
}  // namespace reuse
