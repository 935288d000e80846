// Centroids in one launch: a group has some elements of some clusters, whose members it sums in shared memory. It reads
// the ids of all of a block's vectors for that, which pays where there are few of them, or where a launch that is
// hardly ever needed must do nothing quickly.
#pragma once

#include "sums.h"

namespace reuse::cuda {

// 64-bit sums of which both halves are added to by 32-bit atomic operations, which shared memory has: the lower one
// tells by what was there before whether it carries.
struct SplitSum {
  uint32_t low, high;

  REUSE_BOTH void add(int64_t value) {
    const uint32_t own = static_cast<uint32_t>(value);
    const uint32_t carry = atomic_add(&low, own) > 0xFFFFFFFFu - own ? 1 : 0;
    const uint32_t more = static_cast<uint32_t>(static_cast<uint64_t>(value) >> 32) + carry;
    if (more != 0) atomic_add(&high, more);
  }
  REUSE_BOTH int64_t value() const { return static_cast<int64_t>(static_cast<uint64_t>(high) << 32 | low); }
};

template <typename T, typename Centroid>
struct MeansKernel {
  static constexpr int kThreads = 256;
  static constexpr int32_t kElements = 2, kRows = 1024;
  static constexpr int32_t kRun = 4;  // neighbours that a thread adds up in registers while they share a cluster
  struct Shared {
    SplitSum elements[kElements][kRows];
    SplitSum norms[kRows];  // only of metric angular
    int32_t members[kRows];
  };

  Shape shape;
  const T* x;
  SumScale scale;
  GuessedScale guessed;    // blocks whose guess holds have their centroids already
  const int32_t* ids;      // [B, V]
  const int32_t* leaders;  // [B, V]: below 0 for guarded vectors, which are not summed; null: their ids are, too
  const double* norms;     // [B, V] for metric angular, else null
  const int32_t* counts;   // [B]
  int32_t rows;
  Centroid* centroids;  // [B, rows, L]

  REUSE_BOTH int32_t strips() const { return divide_up(shape.length, kElements); }
  REUSE_BOTH int32_t ranges() const { return divide_up(rows, kRows); }
  REUSE_BOTH int64_t blocks() const { return static_cast<int64_t>(shape.num_blocks) * strips() * ranges(); }

  REUSE_BOTH void run(const Group<kThreads>& group, Shared& shared) const {
    const int32_t strip = static_cast<int32_t>(group.block % strips()) * kElements;
    const int32_t first = static_cast<int32_t>(group.block / strips() % ranges()) * kRows;
    const int32_t block = static_cast<int32_t>(group.block / strips() / ranges());
    const int32_t count = smaller(kRows, counts[block] - first);
    if (count <= 0 || guessed.holds(block)) return;
    group.phase([&](int thread) {
      for (int32_t row = thread; row < count; row += kThreads) clear(row, shared);
    });
    const Scales scales{scale.elements(block, norms != nullptr), scale.norms(block)};
    group.phase([&](int thread) {
      for (int64_t vector = thread * kRun; vector < shape.vectors; vector += kThreads * kRun) {
        add(block, strip, first, count, static_cast<int32_t>(vector), scales, shared);
      }
    });
    group.phase([&](int thread) {
      for (int32_t row = thread; row < count; row += kThreads) write(block, strip, first, row, scales, shared);
    });
  }

 private:
  struct Scales {
    FixedPoint elements, norms;
  };

  REUSE_BOTH static void clear(int32_t row, Shared& shared) {
    for (auto& sums : shared.elements) sums[row] = {0, 0};
    shared.norms[row] = {0, 0};
    shared.members[row] = 0;
  }

  // What a run of neighbours adds to its cluster.
  struct Run {
    int32_t row, members;
    int64_t elements[kElements], norm;
  };

  // Adds the members among kRun neighbours of clusters [first, first + count).
  REUSE_BOTH void add(int32_t block, int32_t strip, int32_t first, int32_t count, int32_t vector, const Scales& scales,
                      Shared& shared) const {
    Run run{-1, 0, {}, 0};
    const int32_t neighbours = smaller(kRun, shape.vectors - vector);
    for (int32_t v = vector; v < vector + neighbours; ++v) {
      const int64_t at = static_cast<int64_t>(block) * shape.vectors + v;
      const int32_t row = leaders != nullptr && leaders[at] < 0 ? -1 : ids[at] - first;
      if (row != run.row) {
        flush(run, shared);
        run = {row >= 0 && row < count ? row : -1, 0, {}, 0};
      }
      if (run.row < 0) continue;
      const NeuronVector<T> values(shape, x, block, v);
      const double* norm = norms == nullptr ? nullptr : norms + at;
      ++run.members;
      REUSE_UNROLL
      for (int i = 0; i < kElements; ++i) {
        run.elements[i] += scales.elements.from(static_cast<double>(summand(values.padded(strip + i), norm)));
      }
      if (norm != nullptr) run.norm += scales.norms.from(*norm);
    }
    flush(run, shared);
  }

  REUSE_BOTH static void flush(const Run& run, Shared& shared) {
    if (run.row < 0) return;
    atomic_add(shared.members + run.row, run.members);
    REUSE_UNROLL
    for (int i = 0; i < kElements; ++i) {
      if (run.elements[i] != 0) shared.elements[i][run.row].add(run.elements[i]);
    }
    if (run.norm != 0) shared.norms[run.row].add(run.norm);
  }

  REUSE_BOTH void write(int32_t block, int32_t strip, int32_t first, int32_t row, const Scales& scales,
                        const Shared& shared) const {
    const double members = shared.members[row];
    if (members == 0.0) return;  // a guarded vector's own row
    Centroid* centroid = centroids + (static_cast<int64_t>(block) * rows + first + row) * shape.length;
    for (int32_t l = strip; l < smaller(strip + kElements, shape.length); ++l) {
      double mean = scales.elements.to(shared.elements[l - strip][row].value()) / members;
      if (norms != nullptr) mean *= scales.norms.to(shared.norms[row].value()) / members;
      centroid[l] = from_float<Centroid>(static_cast<float>(mean));
    }
  }
};

}  // namespace reuse::cuda
