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
                                int64_t num_hashes, float* out, int64_t out_stride) {
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
    for (int64_t v = 0; v < kVectors; ++v) store(out + h * out_stride + v * kLanes, sums[h][v]);
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
             int64_t num_hashes, float* out, int64_t out_stride) {
  constexpr int64_t kStep = kProjectVectors * kLanes;
  for (int64_t p = 0; p < count; p += kStep) {
    int64_t h = 0;
    for (; h + kProjectHashes <= num_hashes; h += kProjectHashes) {
      project_block<kProjectVectors, kProjectHashes>(values + p, stride, length, projections + h, num_hashes,
                                                     out + h * out_stride + p, out_stride);
    }
    for (; h + 2 <= num_hashes; h += 2) {
      project_block<kProjectVectors, 2>(values + p, stride, length, projections + h, num_hashes,
                                        out + h * out_stride + p, out_stride);
    }
    for (; h < num_hashes; ++h) {
      project_block<kProjectVectors, 1>(values + p, stride, length, projections + h, num_hashes,
                                        out + h * out_stride + p, out_stride);
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

namespace {

// Walks kWalkers vectors down `levels` levels of subtrees own[index], to leaves counted from the leftmost one's.
template <int64_t kWalkers>
REUSE_INLINE void descend(const float* values, int64_t stride, const Subtree* own, int64_t levels,
                          int64_t index[kWalkers]) {
  int64_t nodes[kWalkers];
  for (int64_t w = 0; w < kWalkers; ++w) nodes[w] = 1;
  for (int64_t d = 0; d < levels; ++d) {
#pragma GCC unroll 8
    for (int64_t w = 0; w < kWalkers; ++w) {
      const Subtree& subtree = own[index[w]];
      const int64_t node = nodes[w];
      nodes[w] = 2 * node + (values[w * stride + subtree.coordinates[node]] > subtree.thresholds[node] ? 1 : 0);
    }
  }
  for (int64_t w = 0; w < kWalkers; ++w) index[w] = (index[w] << levels) + nodes[w] - (int64_t{1} << levels);
}

template <int64_t kWalkers>
REUSE_INLINE void walk_subtrees(const float* values, int64_t stride, const Subtree* subtrees, int64_t depth,
                                int64_t* codes) {
  int64_t index[kWalkers] = {};
  int64_t levels = first_levels(depth), before = 1;  // subtrees above
  descend<kWalkers>(values, stride, subtrees, levels, index);
  for (; levels < depth; levels += 4) {
    descend<kWalkers>(values, stride, subtrees + before, 4, index);
    before += int64_t{1} << levels;
  }
  for (int64_t w = 0; w < kWalkers; ++w) codes[w] = index[w];
}

#if defined(__AVX512F__)
// The same for 16 vectors of kLength elements, which fit one or two registers each: all nodes of a vector's subtree
// compare at once, and the way down leads through the bits of a mask, for the 16 vectors side by side.
template <int64_t kLength>
struct Sixteen {
  const float* values;
  int64_t stride;

  // Bit n: whether node n sends the vector to the right.
  REUSE_INLINE uint32_t compare(int64_t vector, const Subtree& subtree) const {
    const float* row = values + vector * stride;
    const __m512 chosen = _mm512_permutex2var_ps(_mm512_loadu_ps(row), _mm512_loadu_si512(subtree.coordinates),
                                                 _mm512_loadu_ps(row + kLength - 16));
    return _mm512_cmp_ps_mask(chosen, _mm512_loadu_ps(subtree.thresholds), _CMP_GT_OQ);
  }

  // Returns the leaves of subtrees own[index] that `levels` levels lead to, counted from the leftmost one's.
  REUSE_INLINE IntLanes descend(const Subtree* own, const int32_t index[16], int levels) const {
    int64_t bits[4];
#pragma GCC unroll 4
    for (int64_t q = 0; q < 4; ++q) {
      const int64_t v = 4 * q;
      const __mmask32 low = _mm512_kunpackw(compare(v + 1, own[index[v + 1]]), compare(v, own[index[v]]));
      const __mmask32 high = _mm512_kunpackw(compare(v + 3, own[index[v + 3]]), compare(v + 2, own[index[v + 2]]));
      bits[q] = static_cast<int64_t>(_cvtmask64_u64(_mm512_kunpackd(high, low)));
    }
    typedef uint16_t Words __attribute__((vector_size(32)));
    const Words words = reinterpret_cast<Words>(_mm256_set_epi64x(bits[3], bits[2], bits[1], bits[0]));
    const IntLanes right{{__builtin_convertvector(words, IntLanes::Part)}};
    IntLanes node = IntLanes{} + 1;
    for (int d = 0; d < levels; ++d) {
      node = node + node + (IntLanes{{right.part[0] >> node.part[0]}} & 1);
    }
    return node - (1 << levels);
  }
};

// Walks kSixteens times 16 vectors: what one sixteen waits for passes while others go on.
template <int64_t kSixteens, int64_t kLength>
REUSE_INLINE void walk_sixteens(const float* values, int64_t stride, const Subtree* subtrees, int depth,
                                int64_t* codes) {
  int levels = static_cast<int>(first_levels(depth));
  int64_t before = 1;
  int32_t index[kSixteens][16] = {};
  IntLanes leaves[kSixteens];
  for (int64_t s = 0; s < kSixteens; ++s) {
    leaves[s] = Sixteen<kLength>{values + s * 16 * stride, stride}.descend(subtrees, index[s], levels);
  }
  for (; levels < depth; levels += 4) {
    for (int64_t s = 0; s < kSixteens; ++s) store_bits(index[s], leaves[s]);
    // Indices are addresses next: out of memory they come faster than out of a register's lanes.
    __asm__ volatile("" : "+m"(index));
    for (int64_t s = 0; s < kSixteens; ++s) {
      leaves[s] =
          (leaves[s] << 4) + Sixteen<kLength>{values + s * 16 * stride, stride}.descend(subtrees + before, index[s], 4);
    }
    before += int64_t{1} << levels;
  }
  for (int64_t s = 0; s < kSixteens; ++s) {
    store_bits(index[s], leaves[s]);
    for (int64_t v = 0; v < 16; ++v) codes[s * 16 + v] = index[s][v];
  }
}

// Walks as many vectors as come in sixteens and returns their number.
template <int64_t kLength>
REUSE_INLINE int64_t walk_most(const float* values, int64_t stride, int64_t count, const Subtree* subtrees, int depth,
                               int64_t* codes) {
  int64_t p = 0;
  for (; p + 32 <= count; p += 32) walk_sixteens<2, kLength>(values + p * stride, stride, subtrees, depth, codes + p);
  for (; p + 16 <= count; p += 16) walk_sixteens<1, kLength>(values + p * stride, stride, subtrees, depth, codes + p);
  return p;
}
#endif

}  // namespace

void subtree_leaves(const float* values, int64_t stride, int64_t length, int64_t count, const Subtree* subtrees,
                    int64_t depth, int64_t* codes) {
  constexpr int64_t kWalkers = 8;
  int64_t p = 0;
#if defined(__AVX512F__)
  // Rows without gaps apart, so that offsets are constants.
  const int levels = static_cast<int>(depth);
  if (length == 16) {
    p = stride == 16 ? walk_most<16>(values, 16, count, subtrees, levels, codes)
                     : walk_most<16>(values, stride, count, subtrees, levels, codes);
  } else if (length == 32) {
    p = stride == 32 ? walk_most<32>(values, 32, count, subtrees, levels, codes)
                     : walk_most<32>(values, stride, count, subtrees, levels, codes);
  }
#else
  static_cast<void>(length);
#endif
  for (; p + kWalkers <= count; p += kWalkers) {
    walk_subtrees<kWalkers>(values + p * stride, stride, subtrees, depth, codes + p);
  }
  for (; p < count; ++p) walk_subtrees<1>(values + p * stride, stride, subtrees, depth, codes + p);
}

void tile_rows(const float* values, int64_t stride, int64_t length, int64_t count, float* rows, int64_t row_stride) {
  for (int64_t l = 0; l < row_stride; l += kLanes) {
    const int64_t elements = length - l < kLanes ? length - l : kLanes;
    for (int64_t p = 0; p < count; p += kLanes) {
      Lanes square[kLanes];
#pragma GCC unroll 16
      for (int64_t i = 0; i < kLanes; ++i) square[i] = i < elements ? load(values + (l + i) * stride + p) : Lanes{};
      transpose(square);
#pragma GCC unroll 16
      for (int64_t i = 0; i < kLanes; ++i) store(rows + (p + i) * row_stride + l, square[i]);
    }
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

namespace {

// Whether all elements are finite, for any number of vectors beside each other.
REUSE_INLINE bool are_finite(const float* values, int64_t stride, int64_t length, int64_t count) {
  // Added to the bits of a magnitude, it sets the highest bit from infinity on.
  constexpr uint32_t kMagnitudeBits = 0x7FFFFFFF, kToHighest = 0x00800000;
  typedef uint32_t Half __attribute__((vector_size(32)));
  Vector<uint32_t> bad{};
  Half bad_half{};
  uint32_t all = 0;
  for (int64_t p = 0; p < count; ++p) {
    const float* vector = values + p * stride;
    int64_t l = 0;
    for (; l + kLanes <= length; l += kLanes) bad |= (load_bits<uint32_t>(vector + l) & kMagnitudeBits) + kToHighest;
    for (; l + 8 <= length; l += 8) {
      Half bits;
      memcpy(&bits, vector + l, sizeof(bits));
      bad_half |= (bits & kMagnitudeBits) + kToHighest;
    }
    for (; l < length; ++l) {
      uint32_t bits;
      memcpy(&bits, vector + l, sizeof(bits));
      all |= (bits & kMagnitudeBits) + kToHighest;
    }
  }
  uint32_t lanes[kLanes];
  store_bits(lanes, bad);
  for (int64_t v = 0; v < kLanes; ++v) all |= lanes[v];
  for (int64_t v = 0; v < 8; ++v) all |= bad_half[v];
  return (all & 0x80000000u) == 0;
}

}  // namespace

// Nearly always all are: one look at all vectors together, one by one only if not.
void all_finite_rows(const float* values, int64_t stride, int64_t length, int64_t count, uint8_t* finite) {
  const bool all = are_finite(values, stride, length, count);
  for (int64_t p = 0; p < count; ++p) finite[p] = all || are_finite(values + p * stride, stride, length, 1) ? 1 : 0;
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
