// Numbering of few vectors in one launch: a block's vectors are one group's, which goes through the steps of
// numbering_kernels.h with barriers in between, and with slots in shared memory.
#pragma once

#include "numbering_kernels.h"

namespace reuse::cuda {

// What one group numbers at most. More would keep one multiprocessor busy longer than launches take.
constexpr int32_t kSmallVectors = 4096, kSmallSlots = 2 * kSmallVectors;

template <typename T>
struct SmallNumberingKernel {
  static constexpr int kThreads = 1024;
  struct Shared {
    int32_t table[kSmallSlots];
    ScanShared<kThreads> scan;
    int32_t guarded;
    uint32_t largest;
  };

  CodedVectors<T> vectors;
  TileMaxima maxima;
  int32_t limit;        // clusters that a unit may share
  bool is_limited;      // whether it can have more
  bool number_guarded;  // whether guarded vectors get numbers, too
  int32_t* leaders;     // [B, V]
  int32_t* positions;   // [B, V]: written and read by the block's own group only
  int32_t* ids;         // [B, V]
  int32_t* counts;      // [B]
  RunCounts run_counts;

  REUSE_BOTH int64_t blocks() const { return vectors.shape.num_blocks; }
  REUSE_BOTH void run(const Group<kThreads>& group, Shared& shared) const {
    const int32_t block = static_cast<int32_t>(group.block), all = vectors.shape.vectors;
    const int64_t offset = vectors.offset(block);
    int32_t* own = leaders + offset;
    group.phase([&](int thread) {
      for (int32_t i = thread; i < vectors.units.all_slots(); i += kThreads) shared.table[i] = -1;
      if (thread == 0) shared.guarded = 0;
    });
    group.phase([&](int thread) {
      const SlotInserter slots = vectors.inserter(block, shared.table);
      for (int32_t v = thread; v < all; v += kThreads) own[v] = slots.insert(v);
    });
    scan(group, shared.scan, typename LeaderFlags<T>::OfBlock{vectors, block, shared.table, own});
    // Unless some clusters are not shared, or vectors that share nothing get numbers, a leader's position is its
    // number.
    if (is_limited || number_guarded) {
      scan(group, shared.scan, ClusterFlags{vectors.units, limit, number_guarded, positions + offset, own});
    }
    group.phase([&](int thread) {
      int32_t guarded = 0;
      for (int32_t v = thread; v < all; v += kThreads) {
        const int32_t leader = own[v];
        if (leader < 0) ++guarded;
        ids[offset + v] = leader >= 0 ? positions[offset + leader] : number_guarded ? positions[offset + v] : -1;
      }
      if (guarded > 0) atomic_add(&shared.guarded, guarded);
    });
    group.phase([&](int thread) {
      if (thread != 0) return;
      run_counts.add_guarded(shared.guarded, number_guarded);
      run_counts.add_clusters(block, counts[block]);
    });
    maxima.join(group, shared.largest);
  }

 private:
  // Writes how many flags are set before each vector, and how many there are. A thread has neighbours.
  template <typename Flags>
  REUSE_BOTH void scan(const Group<kThreads>& group, ScanShared<kThreads>& shared, const Flags& flags) const {
    const int32_t all = vectors.shape.vectors, per_thread = divide_up(all, kThreads);
    int32_t* before = positions + vectors.offset(static_cast<int32_t>(group.block));
    group.phase([&](int thread) {
      for (int32_t v = thread; v < all; v += kThreads) flags.prepare(v);
    });
    group.phase([&](int thread) {
      int32_t count = 0;
      for (int32_t v = thread * per_thread; v < smaller(all, (thread + 1) * per_thread); ++v) count += flags.is_set(v);
      shared.sums[0][thread] = count;
    });
    scan_threads(group, shared);
    group.phase([&](int thread) {
      int32_t count = thread > 0 ? shared.sums[0][thread - 1] : 0;
      for (int32_t v = thread * per_thread; v < smaller(all, (thread + 1) * per_thread); ++v) {
        before[v] = count;
        count += flags.is_set(v);
      }
      if (thread == 0) counts[group.block] = shared.sums[0][kThreads - 1];
    });
  }
};

}  // namespace reuse::cuda
