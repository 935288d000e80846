// Arithmetic that must be alike on GPU and host: half precision, roundings, and sums that do not depend on their order.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#include <cuda_fp16.h>
#endif

#include "execution.h"

namespace reuse::cuda {

REUSE_BOTH inline uint32_t bits_of(float value) {
#ifdef __CUDA_ARCH__
  return __float_as_uint(value);
#else
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
#endif
}

REUSE_BOTH inline float float_of(uint32_t bits) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(bits);
#else
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
#endif
}

REUSE_BOTH inline bool is_finite(float value) { return (bits_of(value) & 0x7F800000u) != 0x7F800000u; }
REUSE_BOTH inline bool is_nan(float value) { return (bits_of(value) & 0x7FFFFFFFu) > 0x7F800000u; }
REUSE_BOTH inline float magnitude(float value) { return float_of(bits_of(value) & 0x7FFFFFFFu); }

// A float16 in memory.
struct Half {
  uint16_t bits;
};

REUSE_BOTH inline float to_float(float value) { return value; }

REUSE_BOTH inline float to_float(Half half) {
#ifdef __CUDA_ARCH__
  return __half2float(__ushort_as_half(half.bits));
#else
  const uint32_t sign = static_cast<uint32_t>(half.bits & 0x8000u) << 16;
  const uint32_t exponent = (half.bits >> 10) & 0x1Fu, fraction = half.bits & 0x3FFu;
  if (exponent == 0x1Fu) return float_of(sign | 0x7F800000u | (fraction << 13));
  if (exponent != 0) return float_of(sign | ((exponent + 112u) << 23) | (fraction << 13));
  const float value = static_cast<float>(fraction) * 5.9604644775390625e-8f;  // 2^-24
  return float_of(sign | bits_of(value));
#endif
}

// Rounds to nearest, ties to even.
REUSE_BOTH inline Half to_half(float value) {
#ifdef __CUDA_ARCH__
  return {__half_as_ushort(__float2half_rn(value))};
#else
  const uint32_t bits = bits_of(value), sign = (bits >> 16) & 0x8000u, absolute = bits & 0x7FFFFFFFu;
  if (absolute > 0x7F800000u) return {static_cast<uint16_t>(sign | 0x7FFFu)};
  if (absolute >= 0x477FF000u) return {static_cast<uint16_t>(sign | 0x7C00u)};  // 65520 and more
  if (absolute < 0x38800000u) {                                                 // below 2^-14: subnormal
    // Adding 0.5 leaves multiples of 2^-24 in the fraction, rounded as floats are.
    return {static_cast<uint16_t>(sign | (bits_of(float_of(absolute) + 0.5f) - 0x3F000000u))};
  }
  const uint32_t odd = (absolute >> 13) & 1u;
  return {static_cast<uint16_t>(sign | ((absolute - 0x38000000u + 0xFFFu + odd) >> 13))};
#endif
}

template <typename T>
REUSE_BOTH T from_float(float value);
template <>
REUSE_BOTH inline float from_float<float>(float value) {
  return value;
}
template <>
REUSE_BOTH inline Half from_float<Half>(float value) {
  return to_half(value);
}

// Product and sum, each rounded: codes must be the same on every machine. (Hosts compile this without contraction.)
REUSE_BOTH inline float add_product(float sum, float a, float b) {
#ifdef __CUDA_ARCH__
  return __fadd_rn(sum, __fmul_rn(a, b));
#else
  return sum + a * b;
#endif
}

// What tensor cores read of a float32 in TF32: 10 bits of fraction, rounded to nearest, ties away from zero.
REUSE_BOTH inline float round_to_tf32(float value) {
#ifdef __CUDA_ARCH__
  uint32_t rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(value));
  return float_of(rounded);
#else
  const uint32_t bits = bits_of(value);
  if ((bits & 0x7F800000u) == 0x7F800000u) return value;
  return float_of((bits + 0x1000u) & 0xFFFFE000u);
#endif
}

// The smallest n with 2^n >= value.
REUSE_BOTH inline int log2_up(int64_t value) {
  int n = 0;
  while ((int64_t{1} << n) < value) ++n;
  return n;
}

// The smallest n with 2^n > value, of a finite float that is not negative.
REUSE_BOTH inline int exponent_above(float value) {
  const uint32_t bits = bits_of(value);
  if (bits >= 0x00800000u) return static_cast<int>(bits >> 23) - 126;
  int n = -149;
  while (n < -126 && (bits >> (n + 149)) != 0) ++n;
  return n;
}

// 2^n; n may be any that a double has as a normal number.
REUSE_BOTH inline double power_of_two(int n) {
#ifdef __CUDA_ARCH__
  return __longlong_as_double(static_cast<long long>(n + 1023) << 52);
#else
  return std::ldexp(1.0, n);
#endif
}

// Sums of `count` numbers below 2^exponent as integers: multiples of 2^-shift. Their sum does not depend on its order,
// so threads may add in any, and it loses less than float64 does where the largest summand counts.
struct FixedPoint {
  int shift;

  REUSE_BOTH static FixedPoint of(int64_t count, int exponent) { return {62 - log2_up(count) - exponent}; }
  REUSE_BOTH int64_t from(double value) const {
#ifdef __CUDA_ARCH__
    return __double2ll_rn(value * power_of_two(shift));
#else
    return std::llrint(value * power_of_two(shift));
#endif
  }
  REUSE_BOTH double to(int64_t sum) const { return static_cast<double>(sum) * power_of_two(-shift); }
};

}  // namespace reuse::cuda
