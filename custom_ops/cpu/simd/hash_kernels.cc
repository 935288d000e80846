// Loops of hashing. Compiled once per instruction set, without contraction of products and sums: codes must be the
// same on every machine.
#include "hash_kernels.h"

#include <string.h>

namespace reuse {
namespace simd {
namespace REUSE_TARGET {

void project(const float* values, int64_t stride, int64_t length, int64_t count, const float* projections,
             int64_t num_hashes, float* out) {
  for (int64_t h = 0; h < num_hashes; ++h) {
    float* sums = out + h * stride;
    for (int64_t p = 0; p < count; ++p) sums[p] = 0.0f;
    for (int64_t l = 0; l < length; ++l) {
      const float factor = projections[l * num_hashes + h];
      const float* row = values + l * stride;
      for (int64_t p = 0; p < count; ++p) sums[p] += row[p] * factor;
    }
  }
}

void sign_bits(const float* projected, int64_t stride, int64_t num_hashes, int64_t count, const float* thresholds,
               int64_t* codes) {
  for (int64_t p = 0; p < count; ++p) codes[p] = 0;
  for (int64_t h = 0; h < num_hashes; ++h) {
    const float* row = projected + h * stride;
    const float threshold = thresholds[h];
    const uint64_t bit = uint64_t{1} << h;
    for (int64_t p = 0; p < count; ++p) {
      const uint64_t code = static_cast<uint64_t>(codes[p]);
      codes[p] = static_cast<int64_t>(code | (row[p] > threshold ? bit : 0));
    }
  }
}

void tree_leaves(const float* values, int64_t stride, int64_t count, const int32_t* coordinates,
                 const float* thresholds, int64_t depth, int64_t* codes) {
  for (int64_t p = 0; p < count; ++p) {
    int64_t node = 0;
    for (int64_t d = 0; d < depth; ++d) {
      node = 2 * node + 1 + (values[coordinates[node] * stride + p] > thresholds[node] ? 1 : 0);
    }
    codes[p] = node - ((int64_t{1} << depth) - 1);
  }
}

void fingerprint(const float* values, int64_t stride, int64_t length, int64_t count, int64_t* codes) {
  uint64_t* states = reinterpret_cast<uint64_t*>(codes);
  for (int64_t p = 0; p < count; ++p) states[p] = kMixSeed;
  for (int64_t l = 0; l < length; ++l) {
    const float* row = values + l * stride;
    for (int64_t p = 0; p < count; ++p) {
      uint32_t bits;
      memcpy(&bits, row + p, sizeof(bits));
      states[p] = mix(states[p], bits);
    }
  }
}

void all_finite(const float* values, int64_t stride, int64_t length, int64_t count, uint8_t* finite) {
  constexpr uint32_t kExponent = 0x7F800000u;
  for (int64_t p = 0; p < count; ++p) finite[p] = 1;
  for (int64_t l = 0; l < length; ++l) {
    const float* row = values + l * stride;
    for (int64_t p = 0; p < count; ++p) {
      uint32_t bits;
      memcpy(&bits, row + p, sizeof(bits));
      finite[p] = static_cast<uint8_t>(finite[p] & ((bits & kExponent) != kExponent ? 1 : 0));
    }
  }
}

}  // namespace REUSE_TARGET
}  // namespace simd
}  // namespace reuse
