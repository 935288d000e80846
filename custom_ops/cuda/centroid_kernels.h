// Centroids of numbered clusters: means of the members, or the first member where members are verified.
#pragma once

#include "sums.h"

namespace reuse::cuda {

// Sets the rows of clusters that exist to zero.
struct ClearSumsKernel {
  static constexpr int kThreads = 256;
  using Shared = NothingShared;

  int32_t num_blocks;
  const int32_t* counts;  // [B]
  MemberSums sums;

  REUSE_BOTH void run(const Group<kThreads>& group, Shared&) const {
    for (int32_t block = 0; block < num_blocks; ++block) {
      group.phase([&](int thread) {
        sums.clear(block, counts[block], group.block * kThreads + thread, group.blocks * kThreads);
      });
    }
  }
};

// Adds members to their clusters' sums. A block of threads reads a tile of vectors in the order of memory; then each
// thread goes through neighbouring vectors of one element, and adds to memory only where the cluster changes.
template <typename T>
struct SumMembersKernel {
  static constexpr int kThreads = 256;
  static constexpr int32_t kElements = 32;
  struct Shared {
    float values[kElements][kThreads + 1];
    int32_t ids[kThreads];
  };

  Shape shape;
  const T* x;
  SumScale scale;
  const int32_t* ids;      // [B, V]
  const int32_t* leaders;  // [B, V]: below 0 for guarded vectors, which are not summed
  const double* norms;     // [B, V] for metric angular, else null
  MemberSums sums;

  REUSE_BOTH int32_t tiles() const { return divide_up(shape.vectors, kThreads); }
  REUSE_BOTH int32_t strips() const { return divide_up(shape.length, kElements); }
  REUSE_BOTH int64_t blocks() const { return static_cast<int64_t>(shape.num_blocks) * tiles() * strips(); }

  REUSE_BOTH void run(const Group<kThreads>& group, Shared& shared) const {
    const int32_t first = static_cast<int32_t>(group.block % tiles()) * kThreads;
    const int32_t strip = static_cast<int32_t>(group.block / tiles() % strips()) * kElements;
    const int32_t block = static_cast<int32_t>(group.block / tiles() / strips());
    const int32_t width = smaller(kElements, shape.block_length(block) - strip);
    if (width <= 0) return;
    group.phase([&](int thread) { load(block, first, strip, width, thread, shared); });
    group.phase([&](int thread) { add(block, strip, width, thread, shared); });
  }

 private:
  REUSE_BOTH void load(int32_t block, int32_t first, int32_t strip, int32_t width, int thread, Shared& shared) const {
    const int32_t count = smaller(kThreads, shape.vectors - first);
    const int64_t offset = static_cast<int64_t>(block) * shape.vectors + first;
    shared.ids[thread] = thread < count && leaders[offset + thread] >= 0 ? ids[offset + thread] : -1;
    if (shape.input_pixel_major) {
      for (int32_t i = thread; i < count * width; i += kThreads) {
        const int32_t vector = i / width, l = i % width;
        const float value = NeuronVector<T>(shape, x, block, first + vector)[strip + l];
        shared.values[l][vector] = scaled(value, offset + vector);
      }
    } else if (thread < count) {
      const NeuronVector<T> vector(shape, x, block, first + thread);
      REUSE_UNROLL_8
      for (int32_t l = 0; l < width; ++l) shared.values[l][thread] = scaled(vector[strip + l], offset + thread);
    }
  }

  REUSE_BOTH float scaled(float value, int64_t at) const {
    return summand(value, norms == nullptr ? nullptr : norms + at);
  }

  // Thread t adds element t % columns of as many neighbouring vectors as there are columns.
  REUSE_BOTH void add(int32_t block, int32_t strip, int32_t width, int thread, const Shared& shared) const {
    const int32_t columns = 1 << log2_up(width);
    const int32_t l = thread % columns, begin = thread / columns * columns;
    if (l >= width) return;
    const FixedPoint fixed = scale.elements(block, norms != nullptr);
    const bool counts = strip == 0 && l == 0;
    int32_t id = -1, members = 0;
    int64_t sum = 0;
    for (int32_t p = begin; p < begin + columns; ++p) {
      if (shared.ids[p] != id) {
        flush(block, id, strip + l, sum, counts ? members : 0);
        id = shared.ids[p];
        sum = members = 0;
      }
      if (id < 0) continue;
      sum += fixed.from(static_cast<double>(shared.values[l][p]));
      ++members;
    }
    flush(block, id, strip + l, sum, counts ? members : 0);
  }

  REUSE_BOTH void flush(int32_t block, int32_t id, int32_t element, int64_t sum, int32_t members) const {
    if (id < 0) return;
    const int64_t row = static_cast<int64_t>(block) * sums.rows + id;
    if (sum != 0) atomic_add(sums.elements + row * shape.length + element, sum);
    if (members != 0) atomic_add(sums.members + row, members);
  }
};

// Adds members' norms to their clusters' sums.
struct SumNormsKernel {
  static constexpr int kThreads = 256;
  using Shared = NothingShared;

  int32_t num_blocks, vectors;
  SumScale scale;
  const int32_t* ids;      // [B, V]
  const int32_t* leaders;  // [B, V]
  const double* norms;     // [B, V]
  MemberSums sums;

  REUSE_BOTH int64_t blocks() const { return divide_up<int64_t>(static_cast<int64_t>(num_blocks) * vectors, kThreads); }
  REUSE_BOTH void run(const Group<kThreads>& group, Shared&) const {
    group.phase([&](int thread) {
      const int64_t at = group.block * kThreads + thread;
      if (at >= static_cast<int64_t>(num_blocks) * vectors || leaders[at] < 0) return;
      const int32_t block = static_cast<int32_t>(at / vectors);
      atomic_add(sums.norms + static_cast<int64_t>(block) * sums.rows + ids[at], scale.norms(block).from(norms[at]));
    });
  }
};

// Divides sums by the number of members.
template <typename Centroid>
struct DivideKernel {
  static constexpr int kThreads = 256;
  using Shared = NothingShared;

  int32_t num_blocks, length;
  const int32_t* counts;  // [B]
  SumScale scale;
  MemberSums sums;
  Centroid* centroids;  // [B, rows, L]

  REUSE_BOTH void run(const Group<kThreads>& group, Shared&) const {
    for (int32_t block = 0; block < num_blocks; ++block) {
      const int64_t count = counts[block], first = static_cast<int64_t>(block) * sums.rows;
      const bool angular = sums.norms != nullptr;
      const FixedPoint of_elements = scale.elements(block, angular), of_norms = scale.norms(block);
      group.phase([&](int thread) {
        for (int64_t i = group.block * kThreads + thread; i < count * length; i += group.blocks * kThreads) {
          const int64_t row = first + i / length;
          if (sums.members[row] == 0) continue;  // a guarded vector's own row
          const double members = sums.members[row];
          double mean = of_elements.to(sums.elements[first * length + i]) / members;
          if (angular) mean *= of_norms.to(sums.norms[row]) / members;
          centroids[first * length + i] = from_float<Centroid>(static_cast<float>(mean));
        }
      });
    }
  }
};

// Copies vectors to their clusters' rows: the first member of verified clusters, or each guarded vector, which is
// alone.
template <typename T, typename Centroid>
struct CopyMembersKernel {
  static constexpr int kThreads = 128;
  using Shared = NothingShared;

  Shape shape;
  const T* x;
  int32_t rows;
  bool leaders_too;        // whether first members are copied, or guarded vectors only
  const int32_t* ids;      // [B, V]; vectors below 0 are not copied
  const int32_t* leaders;  // [B, V]
  Centroid* centroids;     // [B, rows, L]

  REUSE_BOTH int64_t blocks() const {
    return static_cast<int64_t>(shape.num_blocks) * divide_up(shape.vectors, kThreads);
  }
  REUSE_BOTH void run(const Group<kThreads>& group, Shared&) const {
    const int32_t per_block = divide_up(shape.vectors, kThreads);
    const int32_t block = static_cast<int32_t>(group.block / per_block);
    const int32_t first = static_cast<int32_t>(group.block % per_block) * kThreads;
    group.phase([&](int thread) {
      if (thread >= shape.vectors - first) return;
      const int32_t index = first + thread;
      const int64_t at = static_cast<int64_t>(block) * shape.vectors + index;
      const bool wanted = leaders[at] < 0 || (leaders_too && leaders[at] == index);
      if (!wanted || ids[at] < 0) return;
      const NeuronVector<T> vector(shape, x, block, index);
      Centroid* row = centroids + (static_cast<int64_t>(block) * rows + ids[at]) * shape.length;
      for (int32_t l = 0; l < shape.length; ++l) row[l] = from_float<Centroid>(vector.padded(l));
    });
  }
};

}  // namespace reuse::cuda
