// Numbering of clusters in order of first appearance (docs/operators.md, Cluster), whatever the order of threads: a
// table of slots finds each vector's leader, the first vector that it shares its code with; a scan numbers the leaders.
#pragma once

#include "sums.h"
#include "vector_tile.h"

namespace reuse::cuda {

// How vectors are cut into units of scope, and the slots of each unit.
struct Units {
  int32_t count;    // per block
  int32_t vectors;  // per unit
  int32_t slots;    // per unit, a power of two
  bool direct;      // codes are below `slots`, each is its own slot
  uint64_t key;     // of the slots, see slot_key

  REUSE_BOTH int64_t all_slots() const { return static_cast<int64_t>(count) * slots; }
};

// A block's vectors on their way into slots. A slot holds the first of the vectors that share its code, whoever came
// first: the code is looked up through the vector, so that any code is allowed. Codes are an earlier kernel's; only
// slots change meanwhile, each from -1 to a vector and then to earlier ones of the same code, so that any of the values
// that a slot had leads to the same one.
struct SlotInserter {
  Units units;
  bool verify;
  const int64_t* codes;   // [V]
  const uint8_t* finite;  // [V]
  int32_t* table;         // [units, slots], starts as -1

  // Returns the slot in the vector's unit, or -1 for vectors that cannot share.
  REUSE_BOTH int32_t insert(int32_t vector) const {
    if (!verify && finite[vector] == 0) return -1;
    int32_t* own = table + static_cast<int64_t>(vector / units.vectors) * units.slots;
    const uint32_t mask = static_cast<uint32_t>(units.slots) - 1;
    for (uint32_t slot = first_slot(codes[vector]) & mask;; slot = (slot + 1) & mask) {
      int32_t holder = read_shared_by_blocks(own + slot);
      if (holder < 0) {
        holder = atomic_exchange_if(own + slot, -1, vector);
        if (holder < 0) return static_cast<int32_t>(slot);
      }
      if (codes[holder] != codes[vector]) continue;
      if (vector < holder) atomic_min(own + slot, vector);
      return static_cast<int32_t>(slot);
    }
  }

 private:
  REUSE_BOTH uint32_t first_slot(int64_t code) const {
    const uint64_t bits = static_cast<uint64_t>(code);
    if (units.direct) return static_cast<uint32_t>(bits);
    // As cpu/cluster_table.h spreads codes.
    const uint64_t product = bits * units.key;
    return static_cast<uint32_t>(((product ^ (product >> 32)) * units.key) >> 32);
  }
};

// What vectors are numbered from, of all blocks.
template <typename T>
struct CodedVectors {
  Shape shape;
  const T* x;
  Units units;
  bool verify;
  const int64_t* codes;   // [B, V]
  const uint8_t* finite;  // [B, V]

  REUSE_BOTH int64_t offset(int32_t block) const { return static_cast<int64_t>(block) * shape.vectors; }
  // `table` is the block's own.
  REUSE_BOTH SlotInserter inserter(int32_t block, int32_t* table) const {
    return {units, verify, codes + offset(block), finite + offset(block), table};
  }
  // Whether the vectors' bits are equal.
  REUSE_BOTH bool is_same(int32_t block, int32_t a, int32_t b) const {
    const NeuronVector<T> left(shape, x, block, a), right(shape, x, block, b);
    for (int32_t l = 0; l < left.length(); ++l) {
      if (bits_of(left[l]) != bits_of(right[l])) return false;
    }
    return true;
  }
};

// Puts every vector into its unit's slots.
template <typename T>
struct InsertKernel {
  static constexpr int kThreads = 128;
  using Shared = NothingShared;

  CodedVectors<T> vectors;
  int32_t* table;    // [B, units, slots], starts as -1
  int32_t* slot_of;  // [B, V]: -1 for vectors that cannot share

  REUSE_BOTH int64_t blocks() const {
    return static_cast<int64_t>(vectors.shape.num_blocks) * divide_up(vectors.shape.vectors, kThreads);
  }
  REUSE_BOTH void run(const Group<kThreads>& group, Shared&) const {
    const int32_t per_block = divide_up(vectors.shape.vectors, kThreads);
    const int32_t block = static_cast<int32_t>(group.block / per_block);
    const int32_t first = static_cast<int32_t>(group.block % per_block) * kThreads;
    group.phase([&](int thread) {
      if (thread >= vectors.shape.vectors - first) return;
      const SlotInserter slots = vectors.inserter(block, table + block * vectors.units.all_slots());
      slot_of[vectors.offset(block) + first + thread] = slots.insert(first + thread);
    });
  }
};

constexpr int kScanThreads = 256;
constexpr int32_t kScanPerThread = 4;
constexpr int32_t kScanChunk = kScanThreads * kScanPerThread;

template <int kThreads>
struct ScanShared {
  int32_t sums[2][kThreads];
};

// Turns shared.sums[0] into inclusive sums, in place.
template <int kThreads>
REUSE_BOTH void scan_threads(const Group<kThreads>& group, ScanShared<kThreads>& shared) {
  static_assert(kThreads == 256 || kThreads == 1024, "an even number of steps leaves the sums in sums[0]");
  int from = 0;
  REUSE_UNROLL
  for (int step = 1; step < kThreads; step *= 2) {
    group.phase([&](int thread) {
      const int32_t before = thread >= step ? shared.sums[from][thread - step] : 0;
      shared.sums[1 - from][thread] = shared.sums[from][thread] + before;
    });
    from = 1 - from;
  }
}

// Flags of the vectors that lead others, of all blocks.
template <typename T>
struct LeaderFlags {
  CodedVectors<T> vectors;
  const int32_t* table;  // [B, units, slots]
  int32_t* leaders;      // [B, V]: slots before, leaders after

  struct OfBlock {
    const CodedVectors<T>& vectors;
    int32_t block;
    const int32_t* table;
    int32_t* leaders;

    // A vector that is to be verified, and has other bits than the first one of its code, leads nobody and has no
    // leader.
    REUSE_BOTH void prepare(int32_t vector) const {
      int32_t& own = leaders[vector];
      if (own < 0) return;
      own = table[static_cast<int64_t>(vector / vectors.units.vectors) * vectors.units.slots + own];
      if (vectors.verify && own != vector && !vectors.is_same(block, own, vector)) own = -1;
    }
    REUSE_BOTH bool is_set(int32_t vector) const { return leaders[vector] == vector; }
  };

  REUSE_BOTH OfBlock of_block(int32_t block, int32_t) const {
    return {vectors, block, table + block * vectors.units.all_slots(), leaders + vectors.offset(block)};
  }
};

// Flags of the vectors that open a cluster that gets a number. Of all blocks or, with pointers moved, of one.
struct ClusterFlags {
  Units units;
  int32_t limit;             // clusters that a unit may share
  bool number_guarded;       // whether guarded vectors get numbers, too
  const int32_t* positions;  // [B, V]: leaders before each vector
  int32_t* leaders;          // [B, V]: becomes -1 for guarded vectors

  REUSE_BOTH ClusterFlags of_block(int32_t block, int32_t vectors) const {
    const int64_t offset = static_cast<int64_t>(block) * vectors;
    return {units, limit, number_guarded, positions + offset, leaders + offset};
  }
  REUSE_BOTH void prepare(int32_t vector) const {
    int32_t& own = leaders[vector];
    if (own < 0) return;
    const int32_t unit_start = vector / units.vectors * units.vectors;
    if (positions[own] - positions[unit_start] >= limit) own = -1;
  }
  REUSE_BOTH bool is_set(int32_t vector) const {
    const int32_t leader = leaders[vector];
    return leader == vector || (leader < 0 && number_guarded);
  }
};

// Counts the flags of each chunk of vectors.
template <typename Flags>
struct CountKernel {
  static constexpr int kThreads = kScanThreads;
  using Shared = ScanShared<kThreads>;

  Flags flags;
  int32_t num_blocks, vectors;
  int32_t* chunk_counts;  // [B, chunks]

  REUSE_BOTH int64_t blocks() const { return static_cast<int64_t>(num_blocks) * divide_up(vectors, kScanChunk); }
  REUSE_BOTH void run(const Group<kThreads>& group, Shared& shared) const {
    const int32_t chunks = divide_up(vectors, kScanChunk);
    const auto own = flags.of_block(static_cast<int32_t>(group.block / chunks), vectors);
    const int32_t first = static_cast<int32_t>(group.block % chunks) * kScanChunk;
    group.phase([&](int thread) {
      int32_t count = 0;
      for (int32_t i = 0; i < kScanPerThread; ++i) {
        const int32_t offset = i * kThreads + thread;
        if (offset >= vectors - first) break;
        own.prepare(first + offset);
        count += own.is_set(first + offset) ? 1 : 0;
      }
      shared.sums[0][thread] = count;
    });
    scan_threads(group, shared);
    group.phase([&](int thread) {
      if (thread == 0) chunk_counts[group.block] = shared.sums[0][kThreads - 1];
    });
  }
};

// Turns the chunks' counts into what is before each, and adds up each block's total. On the way, what tiles of the
// block found as largest magnitudes is joined.
struct ChunkScanKernel {
  static constexpr int kThreads = kScanThreads;
  struct Shared {
    ScanShared<kThreads> scan;
    uint32_t largest;
  };

  int32_t num_blocks, chunks;
  int32_t* chunk_counts;  // [B, chunks]
  int32_t* totals;        // [B]
  TileMaxima maxima;

  REUSE_BOTH int64_t blocks() const { return num_blocks; }
  REUSE_BOTH void run(const Group<kThreads>& group, Shared& shared) const {
    int32_t* own = chunk_counts + group.block * chunks;
    PerThread<int32_t, kThreads> before, count;
    group.phase([&](int thread) { before[thread] = 0; });
    for (int32_t first = 0; first < chunks; first += kThreads) {
      group.phase([&](int thread) {
        count[thread] = thread < chunks - first ? own[first + thread] : 0;
        shared.scan.sums[0][thread] = count[thread];
      });
      scan_threads(group, shared.scan);
      group.phase([&](int thread) {
        if (thread < chunks - first) own[first + thread] = before[thread] + shared.scan.sums[0][thread] - count[thread];
        before[thread] += shared.scan.sums[0][kThreads - 1];
      });
    }
    group.phase([&](int thread) {
      if (thread == 0) totals[group.block] = before[thread];
    });
    maxima.join(group, shared.largest);
  }
};

// Writes how many flags are set before each vector of its block.
template <typename Flags>
struct PositionKernel {
  static constexpr int kThreads = kScanThreads;
  using Shared = ScanShared<kThreads>;

  Flags flags;
  int32_t num_blocks, vectors;
  const int32_t* chunk_counts;  // [B, chunks], of what is before
  int32_t* positions;           // [B, V]

  REUSE_BOTH int64_t blocks() const { return static_cast<int64_t>(num_blocks) * divide_up(vectors, kScanChunk); }
  REUSE_BOTH void run(const Group<kThreads>& group, Shared& shared) const {
    const int32_t chunks = divide_up(vectors, kScanChunk);
    const int32_t block = static_cast<int32_t>(group.block / chunks);
    const int32_t first = static_cast<int32_t>(group.block % chunks) * kScanChunk;
    const auto own = flags.of_block(block, vectors);
    const auto is_set = [&](int32_t offset) { return offset < vectors - first && own.is_set(first + offset) ? 1 : 0; };
    group.phase([&](int thread) {
      int32_t count = 0;
      for (int32_t i = 0; i < kScanPerThread; ++i) count += is_set(thread * kScanPerThread + i);
      shared.sums[0][thread] = count;
    });
    scan_threads(group, shared);
    group.phase([&](int thread) {
      int32_t before = chunk_counts[group.block] + (thread > 0 ? shared.sums[0][thread - 1] : 0);
      for (int32_t i = 0; i < kScanPerThread; ++i) {
        const int32_t offset = thread * kScanPerThread + i;
        if (offset >= vectors - first) break;
        positions[static_cast<int64_t>(block) * vectors + first + offset] = before;
        before += is_set(offset);
      }
    });
  }
};

// What a node keeps on the device: clusters and guarded vectors, summed over blocks and runs, and runs. Blocks of
// threads only add, so their order does not matter.
struct RunCounts {
  int64_t* sums;  // [3], or null

  // A block's clusters; of block 0 the run itself.
  REUSE_BOTH void add_clusters(int32_t block, int32_t clusters) const {
    if (sums == nullptr) return;
    atomic_add(sums, static_cast<int64_t>(clusters));
    if (block == 0) atomic_add(sums + 2, int64_t{1});
  }
  // Vectors that are clusters of their own; `are_counted`: as clusters they were added already.
  REUSE_BOTH void add_guarded(int32_t guarded, bool are_counted) const {
    if (sums == nullptr || guarded == 0) return;
    if (!are_counted) atomic_add(sums, static_cast<int64_t>(guarded));
    atomic_add(sums + 1, static_cast<int64_t>(guarded));
  }
};

// Writes each vector's cluster, or -1 for guarded vectors that have no number. Where sums are given, the rows of those
// clusters are cleared for the next kernel.
struct NumberKernel {
  static constexpr int kThreads = 256;
  struct Shared {
    int32_t guarded;
  };

  int32_t num_blocks, vectors;
  bool number_guarded;
  const int32_t* leaders;    // [B, V]
  const int32_t* positions;  // [B, V]
  const int32_t* counts;     // [B]
  int32_t* ids;              // [B, V]
  RunCounts run_counts;
  MemberSums sums;

  REUSE_BOTH int64_t blocks() const { return static_cast<int64_t>(num_blocks) * divide_up(vectors, kThreads); }
  REUSE_BOTH void run(const Group<kThreads>& group, Shared& shared) const {
    const int32_t per_block = divide_up(vectors, kThreads);
    const int32_t block = static_cast<int32_t>(group.block / per_block);
    const int32_t part = static_cast<int32_t>(group.block % per_block), first = part * kThreads;
    group.phase([&](int thread) {
      if (thread == 0) shared.guarded = 0;
    });
    group.phase([&](int thread) {
      sums.clear(block, counts[block], part * kThreads + thread, per_block * kThreads);
      if (thread >= vectors - first) return;
      const int64_t offset = static_cast<int64_t>(block) * vectors, at = offset + first + thread;
      const int32_t leader = leaders[at];
      if (leader < 0) atomic_add(&shared.guarded, 1);
      ids[at] = leader >= 0 ? positions[offset + leader] : number_guarded ? positions[at] : -1;
    });
    group.phase([&](int thread) {
      if (thread != 0) return;
      run_counts.add_guarded(shared.guarded, number_guarded);
      if (part == 0) run_counts.add_clusters(block, counts[block]);
    });
  }
};

}  // namespace reuse::cuda
