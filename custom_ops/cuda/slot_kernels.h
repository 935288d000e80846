// Clustering where every code has a slot of its own and there are few slots (Units.direct): X is read once. A tile's
// vectors are hashed and added to their slots' sums before anything is numbered. The sums' scale cannot wait for the
// largest magnitude, so it is guessed from a sample; whether the guess held is known afterwards, and blocks where it
// did not get their centroids from another kernel (means_kernel.h). All of that depends on the input alone.
#pragma once

#include "hash_kernels.h"
#include "numbering_kernels.h"
#include "sums.h"

namespace reuse::cuda {

// Bits by which elements may exceed the sample's largest. The sums lose as many: 35 of 43 are left below the sample's
// largest element at 400,000 vectors.
constexpr int kSampleHeadroom = 8;

// Whether the scale of what the type can hold leaves sums exact, so that nothing needs to be guessed: float16 has
// multiples of 2^-24 below 2^16.
template <typename T>
REUSE_BOTH bool sums_are_exact(int32_t vectors) {
  return sizeof(T) == sizeof(Half) && vectors <= 1 << 22;
}

// Clears sums by slot, and guesses scales.
template <typename T>
struct PrepareSlotsKernel {
  static constexpr int kThreads = 256;
  static constexpr int32_t kNeighbours = 16;  // sampled together
  static constexpr int64_t kClearedByThread = 16;
  static constexpr int kHalfExponent = 16;
  struct Shared {
    uint32_t largest;
  };

  Shape shape;
  const T* x;
  MemberSums sums;
  int32_t* exponents;  // [B]

  REUSE_BOTH int64_t blocks() const {
    const int64_t all = static_cast<int64_t>(shape.num_blocks) * sums.rows * shape.length;
    return shape.num_blocks + divide_up(all, kThreads * kClearedByThread);
  }

  // The first groups guess their block's scale, the others clear.
  REUSE_BOTH void run(const Group<kThreads>& group, Shared& shared) const {
    if (group.block < shape.num_blocks) {
      guess(group, shared);
      return;
    }
    const int64_t first = (group.block - shape.num_blocks) * kThreads,
                  step = (group.blocks - shape.num_blocks) * kThreads;
    group.phase([&](int thread) {
      for (int32_t block = 0; block < shape.num_blocks; ++block) sums.clear(block, sums.rows, first + thread, step);
    });
  }

 private:
  REUSE_BOTH void guess(const Group<kThreads>& group, Shared& shared) const {
    const int32_t block = static_cast<int32_t>(group.block);
    group.phase([&](int thread) {
      if (thread == 0) shared.largest = 0;
    });
    const bool is_exact = sums_are_exact<T>(shape.vectors);
    group.phase([&](int thread) { raise_by_all(&shared.largest, is_exact ? 0 : largest_of(block, thread)); });
    group.phase([&](int thread) {
      if (thread != 0) return;
      exponents[block] = is_exact ? kHalfExponent : exponent_above(float_of(shared.largest)) + kSampleHeadroom;
    });
  }

  // Bits of the largest finite magnitude of the thread's vector in the sample: stretches from all over the block.
  REUSE_BOTH uint32_t largest_of(int32_t block, int thread) const {
    constexpr int32_t kStretches = kThreads / kNeighbours;
    const int64_t start = static_cast<int64_t>(shape.vectors) * (thread / kNeighbours) / kStretches;
    const int64_t index = start + thread % kNeighbours;
    if (index >= shape.vectors) return 0;
    const NeuronVector<T> vector(shape, x, block, static_cast<int32_t>(index));
    uint32_t most = 0;
    REUSE_UNROLL_8
    for (int32_t l = 0; l < vector.length(); ++l) {
      const float value = vector[l];
      if (is_finite(value)) most = larger(most, bits_of(magnitude(value)));
    }
    return most;
  }
};

// Hashes a tile and adds it to its slots' sums. Neighbours are added in the order of their slots, so that memory is
// added to once for each slot that they have. Groups share nothing but sums that an earlier kernel cleared, to which
// they only add.
template <typename T>
struct HashIntoSlotsKernel {
  static constexpr int kThreads = kTileThreads;
  static constexpr int kResident = kResidentTiles;
  static constexpr int32_t kSpan = 32;  // neighbours that one thread adds up
  struct Shared {
    VectorTile<T> tile;
    int32_t slots[kMostTileVectors];  // below 0: guarded, or no vector
    int32_t order[kMostTileVectors];  // within each span: positions in the tile by slot
  };

  Shape shape;
  Tiling tiling;
  const T* x;
  HashOperands hash;
  Units units;
  GuessedScale scale;  // of which `largest` is not known yet
  uint32_t* of_tiles;  // [B, tiles]: bits of the largest magnitude of a finite element
  int32_t* slots;      // [B, V]: of the block, or -1
  MemberSums sums;     // [B, units, slots]

  REUSE_BOTH int64_t blocks() const { return static_cast<int64_t>(shape.num_blocks) * tiling.tiles(shape.vectors); }

  REUSE_BOTH void run(const Group<kThreads>& group, Shared& shared) const {
    const Tiling::Place place = tiling.tile(group.block, shape.vectors);
    const int32_t block = place.block, first = place.first, count = place.count;
    group.phase([&](int thread) { shared.tile.clear(thread); });
    group.phase([&](int thread) { shared.tile.load(shape, tiling, x, block, first, count, thread); });
    group.phase([&](int thread) {
      if (thread == 0) of_tiles[group.block] = shared.tile.largest;
      shared.slots[thread] = -1;
      if (thread >= count) return;
      const int32_t slot = slot_of(block, first + thread, thread, shared);
      slots[static_cast<int64_t>(block) * shape.vectors + first + thread] = slot;
      shared.slots[thread] = slot;
    });
    group.phase([&](int thread) {
      if (thread < divide_up(count, kSpan) * kSpan) shared.order[place_of(thread, shared)] = thread;
    });
    group.phase([&](int thread) {
      const int32_t own_columns = smaller(kThreads, tiling.columns());
      const int32_t span = thread / own_columns * kSpan;
      if (span >= count) return;
      for (int32_t l = thread % own_columns; l < shape.block_length(block); l += own_columns) {
        add(block, span, l, shared);
      }
    });
  }

 private:
  REUSE_BOTH int32_t slot_of(int32_t block, int32_t vector, int32_t p, const Shared& shared) const {
    if (shared.tile.spoiled[p] != 0) return -1;
    const uint64_t code = code_of(shared.tile.vector(shape, tiling, block, p), hash, block, shape.length);
    return vector / units.vectors * units.slots + static_cast<int32_t>(code);
  }

  // Where a vector comes if its span is sorted by slot.
  REUSE_BOTH static int32_t place_of(int32_t p, const Shared& shared) {
    const int32_t span = p / kSpan * kSpan, own = shared.slots[p];
    int32_t place = span;
    REUSE_UNROLL_8
    for (int32_t other = span; other < span + kSpan; ++other) {
      const int32_t slot = shared.slots[other];
      place += slot < own || (slot == own && other < p) ? 1 : 0;
    }
    return place;
  }

  // Adds element l of a span. A tile beyond the guessed scale is left out: its block's sums are not used.
  REUSE_BOTH void add(int32_t block, int32_t span, int32_t l, const Shared& shared) const {
    const bool allowed = scale.allows(block, shared.tile.largest);
    const FixedPoint fixed = scale.elements(block);
    const T* element = shared.tile.values + l * tiling.stride();
    int32_t slot = -1, members = 0;
    double sum = 0.0;
    for (int32_t i = span; i < span + kSpan; ++i) {
      const int32_t p = shared.order[i];
      if (shared.slots[p] != slot) {
        flush(block, slot, l, allowed ? fixed.from(sum) : 0, members);
        slot = shared.slots[p];
        sum = 0.0;
        members = 0;
      }
      if (slot < 0) continue;
      sum += static_cast<double>(to_float(element[p]));
      ++members;
    }
    flush(block, slot, l, allowed ? fixed.from(sum) : 0, members);
  }

  REUSE_BOTH void flush(int32_t block, int32_t slot, int32_t l, int64_t sum, int32_t members) const {
    if (slot < 0) return;
    const int64_t row = static_cast<int64_t>(block) * sums.rows + slot;
    if (sum != 0) atomic_add(sums.elements + row * shape.length + l, sum);
    if (l == 0) atomic_add(sums.members + row, members);
  }
};

// Numbers the slots that have members, in their order; one group has a block.
struct NumberSlotsKernel {
  static constexpr int kThreads = 1024;
  struct Shared {
    ScanShared<kThreads> scan;
    int32_t members;
    uint32_t largest;
  };

  int32_t num_blocks, vectors;
  MemberSums sums;
  TileMaxima maxima;
  int32_t* numbers;  // [B, rows]: -1 for slots without members
  int32_t* counts;   // [B]
  RunCounts run_counts;

  REUSE_BOTH int64_t blocks() const { return num_blocks; }
  REUSE_BOTH void run(const Group<kThreads>& group, Shared& shared) const {
    const int32_t block = static_cast<int32_t>(group.block), per_thread = divide_up(sums.rows, kThreads);
    const int32_t* members = sums.members + group.block * sums.rows;
    int32_t* own = numbers + group.block * sums.rows;
    group.phase([&](int thread) {
      if (thread == 0) shared.members = 0;
    });
    group.phase([&](int thread) {
      int32_t used = 0, together = 0;
      for (int32_t row = thread * per_thread; row < smaller(sums.rows, (thread + 1) * per_thread); ++row) {
        used += members[row] > 0 ? 1 : 0;
        together += members[row];
      }
      shared.scan.sums[0][thread] = used;
      if (together > 0) atomic_add(&shared.members, together);
    });
    scan_threads(group, shared.scan);
    group.phase([&](int thread) {
      int32_t before = thread > 0 ? shared.scan.sums[0][thread - 1] : 0;
      for (int32_t row = thread * per_thread; row < smaller(sums.rows, (thread + 1) * per_thread); ++row) {
        own[row] = members[row] > 0 ? before++ : -1;
      }
      if (thread != 0) return;
      const int32_t count = shared.scan.sums[0][kThreads - 1];
      counts[block] = count;
      run_counts.add_clusters(block, count);
      run_counts.add_guarded(vectors - shared.members, false);
    });
    maxima.join(group, shared.largest);
  }
};

// Divides the sums of blocks whose guess held, into the rows of their slots' numbers, and turns every vector's slot
// into its number.
template <typename Centroid>
struct DivideSlotsKernel {
  static constexpr int kThreads = 256;
  using Shared = NothingShared;

  Shape shape;
  Tiling tiling;
  GuessedScale scale;
  MemberSums sums;
  const int32_t* numbers;  // [B, rows]
  Centroid* centroids;     // [B, rows, L]
  int32_t* ids;            // [B, V]: slots before, numbers after

  REUSE_BOTH void run(const Group<kThreads>& group, Shared&) const {
    for (int32_t block = 0; block < shape.num_blocks; ++block) {
      const int64_t first = static_cast<int64_t>(block) * sums.rows;
      group.phase([&](int thread) {
        if (scale.holds(block)) divide(group, block, thread);
        int32_t* own = ids + static_cast<int64_t>(block) * shape.vectors;
        for (int64_t v = group.block * kThreads + thread; v < shape.vectors; v += group.blocks * kThreads) {
          if (own[v] >= 0) own[v] = numbers[first + own[v]];
        }
      });
    }
  }

 private:
  REUSE_BOTH void divide(const Group<kThreads>& group, int32_t block, int thread) const {
    const FixedPoint fixed = scale.elements(block);
    const int32_t own_columns = smaller(kThreads, tiling.columns()), at_once = kThreads / own_columns;
    const int64_t first = static_cast<int64_t>(block) * sums.rows;
    for (int64_t row = group.block * at_once + thread / own_columns; row < sums.rows; row += group.blocks * at_once) {
      const int32_t number = numbers[first + row];
      if (number < 0) continue;
      const double members = sums.members[first + row];
      const int64_t* own = sums.elements + (first + row) * shape.length;
      Centroid* centroid = centroids + (first + number) * shape.length;
      for (int32_t l = thread % own_columns; l < shape.length; l += own_columns) {
        centroid[l] = from_float<Centroid>(static_cast<float>(fixed.to(own[l]) / members));
      }
    }
  }
};

}  // namespace reuse::cuda
