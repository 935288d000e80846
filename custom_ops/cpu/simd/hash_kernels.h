// Declarations shared by the hashing loops and the table of kernels; REUSE_TARGET is the instruction set's namespace.
#pragma once

#include "kernels.h"

namespace reuse {
namespace simd {

constexpr uint64_t kMixSeed = 0x9E3779B97F4A7C15ull;

// One step of the fold `mix` of docs/operators.md.
static inline uint64_t mix(uint64_t state, uint64_t key) {
  state = (state ^ key) * 0xBF58476D1CE4E5B9ull;
  return state ^ (state >> 29);
}

#ifdef REUSE_TARGET
namespace REUSE_TARGET {
void project(const float* values, int64_t stride, int64_t length, int64_t count, const float* projections,
             int64_t num_hashes, float* out, int64_t out_stride);
void sign_bits(const float* projected, int64_t stride, int64_t num_hashes, int64_t count, const float* thresholds,
               int64_t* codes);
void tree_leaves(const float* values, int64_t stride, int64_t count, const int32_t* coordinates,
                 const float* thresholds, int64_t depth, int64_t* codes);
void subtree_leaves(const float* values, int64_t stride, int64_t length, int64_t count, const Subtree* subtrees,
                    int64_t depth, int64_t* codes);
#if defined(__AVX512F__)
constexpr bool kWholeSubtrees = true;
#else
constexpr bool kWholeSubtrees = false;
#endif
#if defined(__AVX512BW__)
bool byte_leaves(const float* values, int64_t stride, int64_t length, int64_t count, const ByteTree& tree,
                 float* turned, int64_t code_bytes, void* codes);
void leaves_of_bytes(const ByteVectors& vectors, const ByteTree& tree, int64_t code_bytes, void* codes);
void dequantise(const ByteVectors& vectors, float scale, float* tile);
#else
constexpr decltype(Kernels::byte_leaves) byte_leaves = nullptr;
constexpr decltype(Kernels::leaves_of_bytes) leaves_of_bytes = nullptr;
constexpr decltype(Kernels::dequantise) dequantise = nullptr;
#endif
void tile_rows(const float* values, int64_t stride, int64_t length, int64_t count, float* rows, int64_t row_stride);
void fingerprint(const float* values, int64_t stride, int64_t length, int64_t count, int64_t* codes);
void all_finite(const float* values, int64_t stride, int64_t length, int64_t count, uint8_t* finite);
void all_finite_rows(const float* values, int64_t stride, int64_t length, int64_t count, uint8_t* finite);
}  // namespace REUSE_TARGET
#endif

}  // namespace simd
}  // namespace reuse
