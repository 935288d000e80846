// Numbering of clusters in order of first appearance (docs/operators.md, Cluster), whatever the order of threads: a
// table of slots finds each vector's leader, the first vector that it shares its code with; a scan numbers the leaders.
#pragma once

#include "vectors.h"

namespace reuse::cuda {

// How vectors are cut into units of scope, and the slots of each unit.
struct Units {
  int32_t count;    // per block
  int32_t vectors;  // per unit
  int32_t slots;    // per unit, a power of two
  bool direct;      // codes are below `slots`, each is its own slot
};

// Puts every vector into its unit's slots. A slot holds the first of the vectors that share it, whoever came first: its
// code is looked up through the vector, so that any code is allowed and members can be compared bit by bit.
template <typename T>
struct InsertKernel {
  static constexpr int kThreads = 128;
  using Shared = NothingShared;

  Shape shape;
  const T* x;
  Units units;
  bool verify;
  const int64_t* codes;   // [B, V]
  const uint8_t* finite;  // [B, V]
  int32_t* table;         // [B, units, slots], starts as -1
  int32_t* slot_of;       // [B, V]: -1 for vectors that cannot share

  REUSE_BOTH int64_t blocks() const {
    return static_cast<int64_t>(shape.num_blocks) * divide_up(shape.vectors, kThreads);
  }
  REUSE_BOTH void run(const Group<kThreads>& group, Shared&) const {
    const int32_t per_block = divide_up(shape.vectors, kThreads);
    const int32_t block = static_cast<int32_t>(group.block / per_block);
    const int32_t first = static_cast<int32_t>(group.block % per_block) * kThreads;
    group.phase([&](int thread) {
      if (thread >= shape.vectors - first) return;
      const int64_t at = static_cast<int64_t>(block) * shape.vectors + first + thread;
      slot_of[at] = verify || finite[at] != 0 ? insert(block, first + thread) : -1;
    });
  }

 private:
  REUSE_BOTH int32_t insert(int32_t block, int32_t vector) const {
    const int64_t unit = static_cast<int64_t>(block) * units.count + vector / units.vectors;
    int32_t* own = table + unit * units.slots;
    const int64_t* of_block = codes + static_cast<int64_t>(block) * shape.vectors;
    const uint32_t mask = static_cast<uint32_t>(units.slots) - 1;
    for (uint32_t slot = first_slot(of_block[vector]) & mask;; slot = (slot + 1) & mask) {
      int32_t holder = read_shared_by_blocks(own + slot);
      if (holder < 0) {
        holder = atomic_exchange_if(own + slot, -1, vector);
        if (holder < 0) return static_cast<int32_t>(slot);
      }
      if (of_block[holder] != of_block[vector] || (verify && !is_same(block, holder, vector))) continue;
      if (vector < holder) atomic_min(own + slot, vector);
      return static_cast<int32_t>(slot);
    }
  }

  REUSE_BOTH uint32_t first_slot(int64_t code) const {
    const uint64_t bits = static_cast<uint64_t>(code);
    if (units.direct) return static_cast<uint32_t>(bits);
    // As cpu/cluster_table.h spreads codes.
    return static_cast<uint32_t>(((bits ^ (bits >> 32)) * 0x9E3779B97F4A7C15ull) >> 32);
  }

  REUSE_BOTH bool is_same(int32_t block, int32_t a, int32_t b) const {
    const NeuronVector<T> left(shape, x, block, a), right(shape, x, block, b);
    for (int32_t l = 0; l < left.length(); ++l) {
      if (bits_of(left[l]) != bits_of(right[l])) return false;
    }
    return true;
  }
};

constexpr int kScanThreads = 256;
constexpr int32_t kScanPerThread = 4;
constexpr int32_t kScanChunk = kScanThreads * kScanPerThread;

struct ScanShared {
  int32_t sums[2][kScanThreads];
};

// Turns shared.sums[0] into inclusive sums, in place.
template <typename ScanGroup>
REUSE_BOTH void scan_threads(const ScanGroup& group, ScanShared& shared) {
  int from = 0;
  REUSE_UNROLL
  for (int step = 1; step < kScanThreads; step *= 2) {
    group.phase([&](int thread) {
      const int32_t before = thread >= step ? shared.sums[from][thread - step] : 0;
      shared.sums[1 - from][thread] = shared.sums[from][thread] + before;
    });
    from = 1 - from;
  }
}
static_assert(kScanThreads == 256, "an even number of steps leaves the sums in sums[0]");

// Flags of the vectors that lead others.
struct LeaderFlags {
  Units units;
  int32_t vectors;
  const int32_t* table;
  int32_t* leaders;  // slots before, leaders after

  REUSE_BOTH void prepare(int32_t block, int32_t vector) const {
    int32_t& own = leaders[static_cast<int64_t>(block) * vectors + vector];
    if (own < 0) return;
    const int64_t unit = static_cast<int64_t>(block) * units.count + vector / units.vectors;
    own = table[unit * units.slots + own];
  }
  REUSE_BOTH bool is_set(int32_t block, int32_t vector) const {
    return leaders[static_cast<int64_t>(block) * vectors + vector] == vector;
  }
};

// Flags of the vectors that open a cluster that gets a number.
struct ClusterFlags {
  Units units;
  int32_t vectors;
  int32_t limit;             // clusters that a unit may share
  bool number_guarded;       // whether guarded vectors get numbers, too
  const int32_t* positions;  // [B, V]: leaders before each vector
  int32_t* leaders;          // becomes -1 for guarded vectors

  REUSE_BOTH void prepare(int32_t block, int32_t vector) const {
    const int64_t offset = static_cast<int64_t>(block) * vectors;
    int32_t& own = leaders[offset + vector];
    if (own < 0) return;
    const int32_t unit_start = vector / units.vectors * units.vectors;
    if (positions[offset + own] - positions[offset + unit_start] >= limit) own = -1;
  }
  REUSE_BOTH bool is_set(int32_t block, int32_t vector) const {
    const int32_t leader = leaders[static_cast<int64_t>(block) * vectors + vector];
    return leader == vector || (leader < 0 && number_guarded);
  }
};

// Counts the flags of each chunk of vectors.
template <typename Flags>
struct CountKernel {
  static constexpr int kThreads = kScanThreads;
  using Shared = ScanShared;

  Flags flags;
  int32_t num_blocks;
  int32_t* chunk_counts;  // [B, chunks]

  REUSE_BOTH int64_t blocks() const { return static_cast<int64_t>(num_blocks) * divide_up(flags.vectors, kScanChunk); }
  REUSE_BOTH void run(const Group<kThreads>& group, Shared& shared) const {
    const int32_t chunks = divide_up(flags.vectors, kScanChunk);
    const int32_t block = static_cast<int32_t>(group.block / chunks);
    const int32_t first = static_cast<int32_t>(group.block % chunks) * kScanChunk;
    group.phase([&](int thread) {
      int32_t count = 0;
      for (int32_t i = 0; i < kScanPerThread; ++i) {
        const int32_t offset = i * kThreads + thread;
        if (offset >= flags.vectors - first) break;
        flags.prepare(block, first + offset);
        count += flags.is_set(block, first + offset) ? 1 : 0;
      }
      shared.sums[0][thread] = count;
    });
    scan_threads(group, shared);
    group.phase([&](int thread) {
      if (thread == 0) chunk_counts[group.block] = shared.sums[0][kThreads - 1];
    });
  }
};

// Turns the chunks' counts into what is before each, and adds up each block's total.
struct ChunkScanKernel {
  static constexpr int kThreads = kScanThreads;
  using Shared = ScanShared;

  int32_t num_blocks, chunks;
  int32_t* chunk_counts;  // [B, chunks]
  int32_t* totals;        // [B]

  REUSE_BOTH int64_t blocks() const { return num_blocks; }
  REUSE_BOTH void run(const Group<kThreads>& group, Shared& shared) const {
    int32_t* own = chunk_counts + group.block * chunks;
    PerThread<int32_t, kThreads> before, count;
    group.phase([&](int thread) { before[thread] = 0; });
    for (int32_t first = 0; first < chunks; first += kThreads) {
      group.phase([&](int thread) {
        count[thread] = thread < chunks - first ? own[first + thread] : 0;
        shared.sums[0][thread] = count[thread];
      });
      scan_threads(group, shared);
      group.phase([&](int thread) {
        if (thread < chunks - first) own[first + thread] = before[thread] + shared.sums[0][thread] - count[thread];
        before[thread] += shared.sums[0][kThreads - 1];
      });
    }
    group.phase([&](int thread) {
      if (thread == 0) totals[group.block] = before[thread];
    });
  }
};

// Writes how many flags are set before each vector of its block.
template <typename Flags>
struct PositionKernel {
  static constexpr int kThreads = kScanThreads;
  using Shared = ScanShared;

  Flags flags;
  int32_t num_blocks;
  const int32_t* chunk_counts;  // [B, chunks], of what is before
  int32_t* positions;           // [B, V]

  REUSE_BOTH int64_t blocks() const { return static_cast<int64_t>(num_blocks) * divide_up(flags.vectors, kScanChunk); }
  REUSE_BOTH void run(const Group<kThreads>& group, Shared& shared) const {
    const int32_t chunks = divide_up(flags.vectors, kScanChunk);
    const int32_t block = static_cast<int32_t>(group.block / chunks);
    const int32_t first = static_cast<int32_t>(group.block % chunks) * kScanChunk;
    group.phase([&](int thread) {
      int32_t count = 0;
      for (int32_t i = 0; i < kScanPerThread; ++i) count += is_set(block, first, thread * kScanPerThread + i);
      shared.sums[0][thread] = count;
    });
    scan_threads(group, shared);
    group.phase([&](int thread) {
      int32_t before = chunk_counts[group.block] + (thread > 0 ? shared.sums[0][thread - 1] : 0);
      for (int32_t i = 0; i < kScanPerThread; ++i) {
        const int32_t offset = thread * kScanPerThread + i;
        if (offset >= flags.vectors - first) break;
        positions[static_cast<int64_t>(block) * flags.vectors + first + offset] = before;
        before += is_set(block, first, offset);
      }
    });
  }

 private:
  REUSE_BOTH int32_t is_set(int32_t block, int32_t first, int32_t offset) const {
    return offset < flags.vectors - first && flags.is_set(block, first + offset) ? 1 : 0;
  }
};

// Writes each vector's cluster, or -1 for guarded vectors that have no number.
struct NumberKernel {
  static constexpr int kThreads = 256;
  struct Shared {
    int32_t guarded;
  };

  int32_t num_blocks, vectors;
  bool number_guarded;
  const int32_t* leaders;    // [B, V]
  const int32_t* positions;  // [B, V]
  int32_t* ids;              // [B, V]
  int32_t* guarded;          // [B], starts as 0

  REUSE_BOTH int64_t blocks() const { return static_cast<int64_t>(num_blocks) * divide_up(vectors, kThreads); }
  REUSE_BOTH void run(const Group<kThreads>& group, Shared& shared) const {
    const int32_t per_block = divide_up(vectors, kThreads);
    const int32_t block = static_cast<int32_t>(group.block / per_block);
    const int32_t first = static_cast<int32_t>(group.block % per_block) * kThreads;
    group.phase([&](int thread) {
      if (thread == 0) shared.guarded = 0;
    });
    group.phase([&](int thread) {
      if (thread >= vectors - first) return;
      const int64_t offset = static_cast<int64_t>(block) * vectors, at = offset + first + thread;
      const int32_t leader = leaders[at];
      if (leader < 0) atomic_add(&shared.guarded, 1);
      ids[at] = leader >= 0 ? positions[offset + leader] : number_guarded ? positions[at] : -1;
    });
    group.phase([&](int thread) {
      if (thread == 0 && shared.guarded > 0) atomic_add(guarded + block, shared.guarded);
    });
  }
};

// Adds a run's counts to those that a node keeps on the device: clusters and guarded vectors, summed over blocks, and
// the run itself.
struct StatisticsKernel {
  static constexpr int kThreads = 128;
  using Shared = NothingShared;

  int32_t num_blocks;
  bool guarded_are_counted;  // whether `counts` has the guarded vectors, too
  const int32_t* counts;     // [B]
  const int32_t* guarded;    // [B]
  int64_t* sums;             // [3]

  REUSE_BOTH int64_t blocks() const { return divide_up(num_blocks, kThreads); }
  REUSE_BOTH void run(const Group<kThreads>& group, Shared&) const {
    group.phase([&](int thread) {
      const int64_t block = group.block * kThreads + thread;
      if (block >= num_blocks) return;
      if (block == 0) atomic_add(sums + 2, int64_t{1});
      const int32_t own = guarded[block];
      atomic_add(sums, static_cast<int64_t>(counts[block]) + (guarded_are_counted ? 0 : own));
      if (own > 0) atomic_add(sums + 1, static_cast<int64_t>(own));
    });
  }
};

}  // namespace reuse::cuda
