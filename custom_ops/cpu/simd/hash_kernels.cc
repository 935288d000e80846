// Loops of hashing. Compiled once per instruction set, without contraction of products and sums: codes must be the
// same on every machine.
#include "hash_kernels.h"

#include "lanes.h"

namespace reuse {
namespace simd {
namespace REUSE_TARGET {

namespace {

// Projections of kVectors * kLanes vectors on kHashes directions, summed in registers.
template <int64_t kVectors, int64_t kHashes>
REUSE_INLINE void project_block(const float* values, int64_t stride, int64_t length, const float* projections,
                                int64_t num_hashes, float* out) {
  Lanes sums[kHashes][kVectors];
  for (int64_t h = 0; h < kHashes; ++h) {
    for (int64_t v = 0; v < kVectors; ++v) sums[h][v] = Lanes{};
  }
  for (int64_t l = 0; l < length; ++l) {
    Lanes row[kVectors];
    for (int64_t v = 0; v < kVectors; ++v) row[v] = load(values + l * stride + v * kLanes);
    for (int64_t h = 0; h < kHashes; ++h) {
      for (int64_t v = 0; v < kVectors; ++v) sums[h][v] += row[v] * projections[l * num_hashes + h];
    }
  }
  for (int64_t h = 0; h < kHashes; ++h) {
    for (int64_t v = 0; v < kVectors; ++v) store(out + h * stride + v * kLanes, sums[h][v]);
  }
}

// Registers of sums: 16 of 32 on AVX-512, where a mask of half as many directions would leave the adders idle.
#if defined(__AVX512F__)
constexpr int64_t kProjectVectors = 2, kProjectHashes = 8;
#else
constexpr int64_t kProjectVectors = 1, kProjectHashes = 4;
#endif

}  // namespace

void project(const float* values, int64_t stride, int64_t length, int64_t count, const float* projections,
             int64_t num_hashes, float* out) {
  constexpr int64_t kStep = kProjectVectors * kLanes;
  for (int64_t p = 0; p < count; p += kStep) {
    int64_t h = 0;
    for (; h + kProjectHashes <= num_hashes; h += kProjectHashes) {
      project_block<kProjectVectors, kProjectHashes>(values + p, stride, length, projections + h, num_hashes,
                                                     out + h * stride + p);
    }
    for (; h + 2 <= num_hashes; h += 2) {
      project_block<kProjectVectors, 2>(values + p, stride, length, projections + h, num_hashes, out + h * stride + p);
    }
    for (; h < num_hashes; ++h) {
      project_block<kProjectVectors, 1>(values + p, stride, length, projections + h, num_hashes, out + h * stride + p);
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

namespace {

// Walks kWalkers vectors down the tree side by side: a step of one waits for its loads while the others go on. Loads
// one by one, as they are as fast as the hardware's gathers on AMD's and not much slower on Intel's cores.
template <int64_t kWalkers>
REUSE_INLINE void walk(const float* values, int64_t stride, const int32_t* coordinates, const float* thresholds,
                       int64_t depth, int64_t* codes) {
  int64_t nodes[kWalkers];
  for (int64_t w = 0; w < kWalkers; ++w) nodes[w] = 0;
  for (int64_t d = 0; d < depth; ++d) {
#pragma GCC unroll 16
    for (int64_t w = 0; w < kWalkers; ++w) {
      const int64_t node = nodes[w];
      nodes[w] = 2 * node + 1 + (values[coordinates[node] * stride + w] > thresholds[node] ? 1 : 0);
    }
  }
  for (int64_t w = 0; w < kWalkers; ++w) codes[w] = nodes[w] - ((int64_t{1} << depth) - 1);
}

}  // namespace

void tree_leaves(const float* values, int64_t stride, int64_t count, const int32_t* coordinates,
                 const float* thresholds, int64_t depth, int64_t* codes) {
  constexpr int64_t kWalkers = 8;
  int64_t p = 0;
  for (; p + kWalkers <= count; p += kWalkers) {
    walk<kWalkers>(values + p, stride, coordinates, thresholds, depth, codes + p);
  }
  for (; p < count; ++p) walk<1>(values + p, stride, coordinates, thresholds, depth, codes + p);
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
  constexpr int32_t kMagnitude = 0x7FFFFFFF, kInfinity = 0x7F800000;
  for (int64_t p = 0; p < count; p += kLanes) {
    IntLanes bad{};
    for (int64_t l = 0; l < length; ++l) {
      bad |= at_least(load_bits<int32_t>(values + l * stride + p) & kMagnitude, kInfinity);
    }
    const int64_t vectors = count - p < kLanes ? count - p : kLanes;
    int32_t flags[kLanes];
    store_bits(flags, bad);
    for (int64_t v = 0; v < vectors; ++v) finite[p + v] = static_cast<uint8_t>(flags[v] == 0 ? 1 : 0);
  }
}

}  // namespace REUSE_TARGET
}  // namespace simd
}  // namespace reuse
