// Trees whose thresholds lie on a grid, walked by 64 vectors at once whose elements are bytes (ByteTree in kernels.h).
// Only AVX-512 has what makes it fast: 64 bytes to a register, and masks of 64 bits.
#include "hash_kernels.h"
#include "lanes.h"

#if defined(__AVX512BW__)
#if !defined(__clang__)
// GCC 12 takes what its own headers leave undefined, and mask, for a mistake.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

namespace reuse {
namespace simd {
namespace REUSE_TARGET {
namespace {

typedef __m512i Bytes;
constexpr int64_t kVectors = 64, kTable = 16;

REUSE_INLINE Bytes load_bytes(const uint8_t* from) { return _mm512_load_si512(from); }
REUSE_INLINE Bytes all_bytes(int value) { return _mm512_set1_epi8(static_cast<char>(value)); }

// The entries of a table of 16 bytes.
REUSE_INLINE Bytes look_up(const uint8_t* table, Bytes index) {
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table))), index);
}

// Up to 64 neighbouring vectors: the lanes of each sixteen that there are.
template <bool kWhole>
struct Sixteens {
  __mmask16 some[4];

  explicit Sixteens(int64_t count) {
    for (int64_t i = 0; i < 4; ++i) {
      const int64_t own = count - 16 * i;
      some[i] = static_cast<__mmask16>(own >= 16 ? 0xFFFF : own <= 0 ? 0 : (1 << own) - 1);
    }
  }

  REUSE_INLINE __m512 load(const float* row, int64_t i) const {
    return kWhole ? _mm512_loadu_ps(row + 16 * i) : _mm512_maskz_loadu_ps(some[i], row + 16 * i);
  }
};

// Adds zero, or NaN where a value is not finite.
REUSE_INLINE __m512 note_infinite(__m512 value, __m512 notes) {
  return _mm512_fmadd_ps(value, _mm512_setzero_ps(), notes);
}

// The numbers of steps by which values lie above the grid's first threshold, rounded up, as bytes. Those of vector
// 16 j + 4 i + r come to stand in byte 16 i + 4 j + r. The sum with `shift` rounds up to the grid, and has the number
// in the low bits of its own.
template <bool kWhole, bool kCheck>
REUSE_INLINE Bytes steps(const float* row, const ByteGrid& grid, const Sixteens<kWhole>& sixteens, __m512 notes[4]) {
  const __m512 first = _mm512_set1_ps(grid.first), shift = _mm512_set1_ps(grid.shift);
  const __m512i zero = _mm512_set1_epi32(grid.zero);
  __m512i number[4];
#pragma GCC unroll 4
  for (int64_t i = 0; i < 4; ++i) {
    __m512 value = sixteens.load(row, i);
    if (kCheck) {
      __asm__("" : "+v"(value));  // GCC would load it twice
      notes[i] = note_infinite(value, notes[i]);
    }
    // Of a NaN and another operand, the maximum is the second one.
    const __m512 sum = _mm512_add_round_ps(_mm512_maskz_max_ps(0xFFFF, value, first), shift,
                                           _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
    number[i] = _mm512_sub_epi32(_mm512_castps_si512(sum), zero);
  }
  return _mm512_packus_epi16(_mm512_packs_epi32(number[0], number[1]), _mm512_packs_epi32(number[2], number[3]));
}

// In each part of 128 bits, word i of row j becomes word j of row i.
REUSE_INLINE void transpose_words(const __m512i* from, __m512i* to) {
  const __m512i low01 = _mm512_unpacklo_epi32(from[0], from[1]), high01 = _mm512_unpackhi_epi32(from[0], from[1]);
  const __m512i low23 = _mm512_unpacklo_epi32(from[2], from[3]), high23 = _mm512_unpackhi_epi32(from[2], from[3]);
  to[0] = _mm512_unpacklo_epi64(low01, low23);
  to[1] = _mm512_unpackhi_epi64(low01, low23);
  to[2] = _mm512_unpacklo_epi64(high01, high23);
  to[3] = _mm512_unpackhi_epi64(high01, high23);
}

// Elements 0 to 15 of 64 vectors as 16 rows, whose bytes stand where steps() puts them: `groups` of four rows.
REUSE_INLINE void transpose_bytes(const uint8_t* values, int64_t stride, int64_t groups, Bytes flip, uint8_t* rows) {
  const Bytes by_element = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  __m512i fours[4][4];  // by group: in part i and word c of row j, element c of vectors 16 j + 4 i to 16 j + 4 i + 3
#pragma GCC unroll 4
  for (int64_t j = 0; j < 4; ++j) {
    __m512i vectors[4], words[4];
#pragma GCC unroll 4
    for (int64_t r = 0; r < 4; ++r) {
      const auto sixteen = [&](int64_t i) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(values + (16 * j + 4 * i + r) * stride));
      };
      const __m512i first = _mm512_inserti32x4(_mm512_castsi128_si512(sixteen(0)), sixteen(1), 1);
      vectors[r] = _mm512_inserti32x4(_mm512_inserti32x4(first, sixteen(2), 2), sixteen(3), 3);
    }
    transpose_words(vectors, words);
#pragma GCC unroll 4
    for (int64_t h = 0; h < 4; ++h) fours[h][j] = _mm512_shuffle_epi8(words[h], by_element);
  }
#pragma GCC unroll 4
  for (int64_t h = 0; h < 4; ++h) {
    if (h >= groups) break;
    __m512i own[4];
    transpose_words(fours[h], own);
    for (int64_t c = 0; c < 4; ++c) _mm512_store_si512(rows + (4 * h + c) * kVectors, _mm512_xor_si512(own[c], flip));
  }
}

// One of 2^kPlanes rows for each vector; bit i of its choice is choice[i].
template <int kPlanes>
REUSE_INLINE Bytes choose(const uint8_t* rows, const uint16_t* at, const __mmask64* choice) {
  if constexpr (kPlanes == 0) {
    return load_bytes(rows + at[0]);
  } else if constexpr (kPlanes == 1) {
    return _mm512_mask_mov_epi8(load_bytes(rows + at[0]), choice[0], load_bytes(rows + at[1]));
  } else {
    return _mm512_mask_mov_epi8(choose<kPlanes - 1>(rows, at, choice), choice[kPlanes - 1],
                                choose<kPlanes - 1>(rows, at + (1 << (kPlanes - 1)), choice));
  }
}

// 64 vectors on their way down.
struct Walk {
  const ByteTree& tree;
  const uint8_t* rows;
  __mmask64 right[kByteLevels];
  Bytes low = _mm512_setzero_si512();  // bit i: whether the vector went right on level i, for the first four
  Bytes place = all_bytes(1);          // the vector's node's first bit in the bytes of `planes`

  // An entry of 2^kBits tables: which one, levels kFirst to kFirst + kBits - 1 say.
  template <int kFirst, int kBits>
  REUSE_INLINE Bytes find(const uint8_t* tables) const {
    if constexpr (kBits <= 0) {
      return look_up(tables, low);
    } else if constexpr (kBits == 1) {
      const __m128i second = _mm_loadu_si128(reinterpret_cast<const __m128i*>(tables + kTable));
      return _mm512_mask_shuffle_epi8(look_up(tables, low), right[kFirst], _mm512_broadcast_i32x4(second), low);
    } else {
      return _mm512_mask_mov_epi8(find<kFirst + 1, kBits - 1>(tables), right[kFirst],
                                  find<kFirst + 1, kBits - 1>(tables + (kTable << (kBits - 1))));
    }
  }

  template <int kLevel, int kPlanes>
  REUSE_INLINE Bytes values(const ByteLevel& level) const {
    constexpr int kPerByte = planes_per_byte(kLevel), kBytes = bytes_per_plane(kLevel);
    __mmask64 choice[kPlanes + 1];
    Bytes bits = low, bit = place;
#pragma GCC unroll 8
    for (int plane = 0; plane < kPlanes; ++plane) {
      if (plane % kPerByte == 0) {
        bits = find<7, kLevel - 7>(level.planes + plane / kPerByte * kBytes * kTable);
        bit = place;
      }
      choice[plane] = _mm512_test_epi8_mask(bits, bit);
      bit = _mm512_add_epi8(bit, bit);
    }
    return choose<kPlanes>(rows, level.rows, choice);
  }

  template <int kLevel>
  REUSE_INLINE void step() {
    const ByteLevel& level = tree.levels[kLevel];
    Bytes value;
    switch (level.num_planes) {
      case 0:
        value = values<kLevel, 0>(level);
        break;
      case 1:
        value = values<kLevel, (kLevel < 1 ? 0 : 1)>(level);
        break;
      case 2:
        value = values<kLevel, (kLevel < 2 ? 0 : 2)>(level);
        break;
      case 3:
        value = values<kLevel, (kLevel < 3 ? 0 : 3)>(level);
        break;
      case 4:
        value = values<kLevel, (kLevel < 4 ? 0 : 4)>(level);
        break;
      default:
        value = values<kLevel, (kLevel < 5 ? 0 : 5)>(level);
        break;
    }
    const Bytes threshold = find<4, kLevel - 4>(level.thresholds);
    const __mmask64 went = _mm512_cmpgt_epu8_mask(value, threshold);
    right[kLevel] = went;
    if constexpr (kLevel < 4) low = _mm512_mask_add_epi8(low, went, low, all_bytes(1 << kLevel));
    if constexpr (kLevel == 4) place = _mm512_mask_mov_epi8(place, went, all_bytes(16));
    if constexpr (kLevel == 5 || kLevel == 6) place = _mm512_mask_add_epi8(place, went, place, place);
    if constexpr (kLevel == 5) place = _mm512_mask_add_epi8(place, went, place, place);
  }

  template <int kLevel>
  REUSE_INLINE void descend() {
    if constexpr (kLevel < kByteLevels) {
      if (kLevel >= tree.depth) return;
      step<kLevel>();
      descend<kLevel + 1>();
    }
  }

  // The low (0) or high (1) bytes of the nodes that were reached, numbered from the left.
  REUSE_INLINE Bytes leaves(int byte) const {
    Bytes code = look_up(tree.leaves[byte], low);
#pragma GCC unroll 16
    for (int64_t level = 4; level < kByteLevels; ++level) {
      if (level >= tree.depth) break;
      code = _mm512_mask_add_epi8(code, right[level], code, _mm512_set1_epi32(tree.bits[byte][level]));
    }
    return code;
  }
};

// Brings bytes back to the order of the vectors.
REUSE_INLINE Bytes in_order(Bytes bytes) {
  const __m512i from = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
  return _mm512_permutexvar_epi32(from, bytes);
}

// The levels below, with as many vectors side by side as registers hold. Vectors stay where steps() has put them until
// their leaves are written.
void descend_deep(const ByteTree& tree, const uint8_t* rows, const uint8_t nodes[2][kVectors], uint16_t* leaves) {
  constexpr int64_t kWalkers = 4;
  for (int64_t from = 0; from < kVectors; from += kWalkers) {
    uint64_t own[kWalkers];
    for (int64_t v = 0; v < kWalkers; ++v) own[v] = nodes[0][from + v] | nodes[1][from + v] << 8;
    const uint16_t* level = tree.deep;
    for (int64_t depth = kByteLevels; depth < tree.depth; ++depth) {
#pragma GCC unroll 4
      for (int64_t v = 0; v < kWalkers; ++v) {
        const uint64_t node = level[own[v]];
        const uint8_t value = rows[(node >> 8) * kVectors + static_cast<uint64_t>(from + v)];
        own[v] = 2 * own[v] + (value > (node & 0xFF) ? 1 : 0);
        __asm__("" : "+r"(own[v]));  // GCC would gather
      }
      level += int64_t{1} << depth;
    }
    uint16_t* to = leaves + (from & 12) * 4 + from / 16 * 4;
    for (int64_t v = 0; v < kWalkers; ++v) to[v] = static_cast<uint16_t>(own[v]);
  }
}

template <typename From>
REUSE_INLINE void widen(const From* leaves, int64_t count, int64_t code_bytes, void* codes, int64_t at) {
  if (code_bytes == 8) {
    int64_t* wide = static_cast<int64_t*>(codes) + at;
    for (int64_t p = 0; p < count; ++p) wide[p] = leaves[p];
  } else {
    uint16_t* words = static_cast<uint16_t*>(codes) + at;
    for (int64_t p = 0; p < count; ++p) words[p] = leaves[p];
  }
}

// Where leaves of a tree go.
struct Leaves {
  const ByteTree& tree;
  int64_t code_bytes;
  void* codes;

  // Writes those of `count` vectors from `at` on, whose rows stand where steps() puts them.
  template <bool kWhole>
  REUSE_INLINE void write(const uint8_t* rows, int64_t count, int64_t at) const {
    Walk down{tree, rows, {}};
    down.descend<0>();
    const Bytes bytes = down.leaves(0);
    if (tree.depth > 8) {
      alignas(64) uint8_t nodes[2][kVectors];
      alignas(64) uint16_t words[kVectors];
      const Bytes high = down.leaves(1);
      const bool deep = tree.depth > kByteLevels;
      _mm512_store_si512(nodes[0], deep ? bytes : in_order(bytes));
      _mm512_store_si512(nodes[1], deep ? high : in_order(high));
      if (deep) {
        descend_deep(tree, rows, nodes, words);
      } else {
        for (int64_t p = 0; p < kVectors; ++p) words[p] = static_cast<uint16_t>(nodes[0][p] | nodes[1][p] << 8);
      }
      widen(words, count, code_bytes, codes, at);
    } else if (code_bytes == 1) {
      const __mmask64 some = kWhole ? ~__mmask64{0} : (__mmask64{1} << count) - 1;
      _mm512_mask_storeu_epi8(static_cast<uint8_t*>(codes) + at, some, in_order(bytes));
    } else {
      alignas(64) uint8_t ordered[kVectors];
      _mm512_store_si512(ordered, in_order(bytes));
      widen(ordered, count, code_bytes, codes, at);
    }
  }
};

// What byte_leaves has of its caller.
struct FloatLeaves {
  Leaves leaves;
  int64_t length;
  __m512 notes[4];  // zero as long as all values are finite

  // Reads a row for this alone.
  template <bool kWhole>
  REUSE_INLINE void check(const float* row, const Sixteens<kWhole>& sixteens) {
#pragma GCC unroll 4
    for (int64_t i = 0; i < 4; ++i) notes[i] = note_infinite(sixteens.load(row, i), notes[i]);
  }

  // Codes `count` vectors from the first one on, `at` of the caller's. Elements are checked, or were before.
  template <bool kWhole, bool kCheck>
  REUSE_INLINE void find(const float* values, int64_t stride, int64_t count, int64_t at) {
    static const float kZeros[kVectors] = {};
    const ByteTree& tree = leaves.tree;
    alignas(64) uint8_t rows[kMostByteRows * kVectors];
    const Sixteens<kWhole> sixteens(count);
    int64_t next = 0;
    for (int64_t r = 0; r < tree.num_rows; ++r) {
      const ByteGrid& grid = tree.grids[r];
      for (; kCheck && next < grid.coordinate && next < length; ++next) check(values + next * stride, sixteens);
      next = grid.coordinate + 1;
      // A short block's vectors count as padded with zeros.
      const float* row = !kCheck || grid.coordinate < length ? values + grid.coordinate * stride : kZeros;
      _mm512_store_si512(rows + r * kVectors, steps<kWhole, kCheck>(row, grid, sixteens, notes));
    }
    for (; kCheck && next < length; ++next) check(values + next * stride, sixteens);
    leaves.write<kWhole>(rows, count, at);
  }

  template <bool kWhole>
  REUSE_INLINE void turn_and_find(const float* values, int64_t stride, int64_t count, float* turned, int64_t at) {
    const Sixteens<kWhole> sixteens(count);
    for (int64_t l = 0; l < length; ++l) check(values + l * stride, sixteens);
    project(values, stride, length, count, leaves.tree.rotation, leaves.tree.num_rows, turned, kVectors);
    find<kWhole, false>(turned, kVectors, count, at);
  }

  template <bool kWhole>
  REUSE_INLINE void add(const float* values, int64_t stride, int64_t count, float* turned, int64_t at) {
    if (leaves.tree.rotation != nullptr) {
      turn_and_find<kWhole>(values + at, stride, count, turned, at);
    } else {
      find<kWhole, true>(values + at, stride, count, at);
    }
  }
};

}  // namespace

bool byte_leaves(const float* values, int64_t stride, int64_t length, int64_t count, const ByteTree& tree,
                 float* turned, int64_t code_bytes, void* codes) {
  FloatLeaves leaves{{tree, code_bytes, codes}, length, {}};
  int64_t p = 0;
  for (; p + kVectors <= count; p += kVectors) leaves.add<true>(values, stride, kVectors, turned, p);
  if (p < count) leaves.add<false>(values, stride, count - p, turned, p);
  const __m512 all =
      _mm512_add_ps(_mm512_add_ps(leaves.notes[0], leaves.notes[1]), _mm512_add_ps(leaves.notes[2], leaves.notes[3]));
  return _mm512_cmp_ps_mask(all, all, _CMP_UNORD_Q) == 0;
}

namespace {

constexpr int64_t kElements = 16;  // that are read of a vector at once

// Brings `count` vectors from `first` on, elements `from` to `from + kElements` of each, as far as there are, into
// rows.
REUSE_INLINE void read_rows(const ByteVectors& vectors, int64_t first, int64_t count, int64_t from, uint8_t* rows) {
  alignas(64) uint8_t copied[kVectors * kElements];
  const int64_t own = vectors.length - from, at = first * vectors.stride + from;
  const uint8_t* values = vectors.values + at;
  int64_t stride = vectors.stride;
  if (count < kVectors || at + (kVectors - 1) * stride + kElements > vectors.readable) {
    for (int64_t p = 0; p < count; ++p) {
      memcpy(copied + p * kElements, values + p * stride, static_cast<size_t>(own < kElements ? own : kElements));
    }
    values = copied;
    stride = kElements;
  }
  transpose_bytes(values, stride, (own + 3) / 4, all_bytes(vectors.flip), rows);
}

}  // namespace

void leaves_of_bytes(const ByteVectors& vectors, const ByteTree& tree, int64_t code_bytes, void* codes) {
  alignas(64) uint8_t rows[kMostByteRows * kVectors];
  const Leaves leaves{tree, code_bytes, codes};
  for (int64_t first = 0; first < vectors.count; first += kVectors) {
    const int64_t rest = vectors.count - first, count = rest < kVectors ? rest : kVectors;
    for (int64_t l = 0; l < vectors.length; l += kElements) read_rows(vectors, first, count, l, rows + l * kVectors);
    for (int64_t l = vectors.length; l < tree.num_rows; ++l) {
      _mm512_store_si512(rows + l * kVectors, all_bytes(vectors.padding));
    }
    if (count == kVectors) {
      leaves.write<true>(rows, count, first);
    } else {
      leaves.write<false>(rows, count, first);
    }
  }
}

void dequantise(const ByteVectors& vectors, float scale, float* tile) {
  alignas(64) uint8_t rows[kElements * kVectors];
  const __m512i zero = _mm512_set1_epi32(vectors.padding);
  for (int64_t from = 0; from < vectors.length; from += kElements) {
    read_rows(vectors, 0, vectors.count, from, rows);
    const int64_t rest = vectors.length - from;
    for (int64_t l = 0; l < (rest < kElements ? rest : kElements); ++l) {
      const Bytes ordered = in_order(load_bytes(rows + l * kVectors));
      alignas(64) uint8_t own[kVectors];
      _mm512_store_si512(own, ordered);
      for (int64_t i = 0; i < kVectors; i += 16) {
        const __m512i numbers = _mm512_cvtepu8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(own + i)));
        _mm512_storeu_ps(tile + (from + l) * kVectors + i,
                         _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(numbers, zero)), _mm512_set1_ps(scale)));
      }
    }
  }
}

}  // namespace REUSE_TARGET
}  // namespace simd
}  // namespace reuse

#endif
