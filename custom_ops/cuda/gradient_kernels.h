// The backward pass's products, of deltas that are summed by cluster (delta_kernels.h): the weights' gradient with the
// centroids, the centroids' deltas with the weights, and what these are for the input.
#pragma once

#include "delta_kernels.h"
#include "product_kernels.h"

namespace reuse::cuda {

// The weights' gradient of some output channels: centroids^T [L, C] times sums [C, taps * tile] (Eq. 9, 10). A thread
// has a column of the sums, which it reads once for all of its elements.
struct WeightGradientKernel {
  static constexpr int kThreads = 128;
  static constexpr int32_t kElements = 16, kClusters = 64;
  struct Shared {
    alignas(16) float centroids[kClusters][kElements];
  };
  struct Sums {
    float values[kElements];
  };

  Shape shape;
  int32_t rows;
  const int32_t* counts;   // [B]
  const float* centroids;  // [B, rows, L]
  ChannelSums summed;
  float* gradient;  // [M, Ic/group, kh, kw]

  REUSE_BOTH int32_t width() const { return shape.taps * summed.tile; }
  REUSE_BOTH int32_t down() const { return divide_up(shape.length, kElements); }
  REUSE_BOTH int32_t across() const { return divide_up(width(), kThreads); }
  REUSE_BOTH int64_t blocks() const { return static_cast<int64_t>(shape.num_blocks) * down() * across(); }

  REUSE_BOTH void run(const Group<kThreads>& group, Shared& shared) const {
    const int32_t strip = static_cast<int32_t>(group.block % across()) * kThreads;
    const int32_t element = static_cast<int32_t>(group.block / across() % down()) * kElements;
    const int32_t block = static_cast<int32_t>(group.block / across() / down());
    const int32_t count = smaller(counts[block], rows);
    PerThread<Sums, kThreads> sums;
    group.phase([&](int thread) {
      REUSE_UNROLL
      for (int i = 0; i < kElements; ++i) sums[thread].values[i] = 0.0f;
    });
    for (int32_t first = 0; first < count; first += kClusters) {
      const int32_t clusters = smaller(kClusters, count - first);
      group.phase([&](int thread) { load(block, first, clusters, element, thread, shared); });
      group.phase([&](int thread) {
        if (strip + thread < width()) add(block, first, clusters, strip + thread, shared, sums[thread]);
      });
    }
    group.phase([&](int thread) { write(block, element, strip + thread, sums[thread]); });
  }

 private:
  REUSE_BOTH void load(int32_t block, int32_t first, int32_t clusters, int32_t element, int thread,
                       Shared& shared) const {
    const float* own = centroids + (static_cast<int64_t>(block) * rows + first) * shape.length + element;
    for (int i = thread; i < clusters * kElements; i += kThreads) {
      const int32_t cluster = i / kElements, l = i % kElements;
      shared.centroids[cluster][l] =
          element + l < shape.length ? own[static_cast<int64_t>(cluster) * shape.length + l] : 0.0f;
    }
  }

  REUSE_BOTH void add(int32_t block, int32_t first, int32_t clusters, int32_t column, const Shared& shared,
                      Sums& sums) const {
    const float* own = summed.sums + (static_cast<int64_t>(block) * rows + first) * width() + column;
    REUSE_UNROLL_8
    for (int32_t cluster = 0; cluster < clusters; ++cluster) {
      const float delta = own[static_cast<int64_t>(cluster) * width()];
      REUSE_UNROLL
      for (int l = 0; l < kElements; ++l) sums.values[l] += shared.centroids[cluster][l] * delta;
    }
  }

  REUSE_BOTH void write(int32_t block, int32_t element, int32_t column, const Sums& sums) const {
    const int32_t tap = column / summed.tile, channel = column % summed.tile;
    if (tap >= shape.taps || channel >= summed.channels) return;
    REUSE_UNROLL
    for (int l = 0; l < kElements; ++l) {
      if (element + l >= shape.block_length(block)) continue;
      gradient[weight_index(shape, block, element + l, tap, summed.first + channel)] = sums.values[l];
    }
  }
};

// The deltas of centroids: sums [C, taps * tile] times the weights' transpose [taps * tile, L], over the members
// (Eq. 13 to 18). Tiles of output channels are added one after the other.
struct CentroidDeltaKernel {
  static constexpr int kThreads = 128;
  static constexpr int32_t kClusters = 64, kElements = 16, kDepth = 32;
  static constexpr int32_t kOwnClusters = 4, kOwnElements = 2;  // of a thread
  struct Shared {
    float sums[kDepth][kClusters + 1];
    float weights[kDepth][kElements + 1];
  };
  struct Sums {
    float values[kOwnClusters][kOwnElements];
  };

  Shape shape;
  const int32_t* counts;  // [B]
  OrderedClusters clusters;
  ChannelSums summed;
  const float* panels;     // [B, L, taps, tile]
  bool is_first, is_last;  // of the tiles
  float* deltas;           // [B, rows, L]

  REUSE_BOTH int32_t width() const { return shape.taps * summed.tile; }
  REUSE_BOTH int32_t down() const { return divide_up(clusters.rows, kClusters); }
  REUSE_BOTH int32_t across() const { return divide_up(shape.length, kElements); }
  REUSE_BOTH int64_t blocks() const { return static_cast<int64_t>(shape.num_blocks) * down() * across(); }

  REUSE_BOTH void run(const Group<kThreads>& group, Shared& shared) const {
    const int32_t element = static_cast<int32_t>(group.block % across()) * kElements;
    const int32_t first = static_cast<int32_t>(group.block / across() % down()) * kClusters;
    const int32_t block = static_cast<int32_t>(group.block / across() / down());
    const int32_t count = smaller(kClusters, counts[block] - first);
    if (count <= 0) return;
    PerThread<Sums, kThreads> sums;
    group.phase([&](int thread) {
      REUSE_UNROLL
      for (int i = 0; i < kOwnClusters * kOwnElements; ++i) {
        sums[thread].values[i / kOwnElements][i % kOwnElements] = 0.0f;
      }
    });
    for (int32_t column = 0; column < width(); column += kDepth) {
      group.phase([&](int thread) { load(block, first, count, element, column, thread, shared); });
      group.phase([&](int thread) { multiply(shared, thread, sums[thread]); });
    }
    group.phase([&](int thread) { write(block, first, count, element, thread, sums[thread]); });
  }

 private:
  REUSE_BOTH void load(int32_t block, int32_t first, int32_t count, int32_t element, int32_t column, int thread,
                       Shared& shared) const {
    const float* own = summed.sums + (static_cast<int64_t>(block) * clusters.rows + first) * width() + column;
    const float* panel = panels + (static_cast<int64_t>(block) * shape.length + element) * width() + column;
    REUSE_UNROLL_8
    for (int i = thread; i < kClusters * kDepth; i += kThreads) {
      const int32_t cluster = i / kDepth, k = i % kDepth;
      const bool there = cluster < count && k < width() - column;
      shared.sums[k][cluster] = there ? own[static_cast<int64_t>(cluster) * width() + k] : 0.0f;
    }
    REUSE_UNROLL_8
    for (int i = thread; i < kElements * kDepth; i += kThreads) {
      const int32_t l = i / kDepth, k = i % kDepth;
      const bool there = l < shape.length - element && k < width() - column;
      shared.weights[k][l] = there ? panel[static_cast<int64_t>(l) * width() + k] : 0.0f;
    }
  }

  REUSE_BOTH static int32_t cluster_of(int thread) { return thread / (kElements / kOwnElements) * kOwnClusters; }
  REUSE_BOTH static int32_t element_of(int thread) { return thread % (kElements / kOwnElements) * kOwnElements; }

  REUSE_BOTH static void multiply(const Shared& shared, int thread, Sums& sums) {
    REUSE_UNROLL_8
    for (int k = 0; k < kDepth; ++k) {
      REUSE_UNROLL
      for (int i = 0; i < kOwnClusters; ++i) {
        REUSE_UNROLL
        for (int j = 0; j < kOwnElements; ++j) {
          sums.values[i][j] += shared.sums[k][cluster_of(thread) + i] * shared.weights[k][element_of(thread) + j];
        }
      }
    }
  }

  REUSE_BOTH void write(int32_t block, int32_t first, int32_t count, int32_t element, int thread,
                        const Sums& sums) const {
    REUSE_UNROLL
    for (int i = 0; i < kOwnClusters; ++i) {
      const int32_t cluster = cluster_of(thread) + i;
      if (cluster >= count) continue;
      const float members = is_last ? static_cast<float>(clusters.members(block, first + cluster)) : 1.0f;
      REUSE_UNROLL
      for (int j = 0; j < kOwnElements; ++j) {
        const int32_t l = element + element_of(thread) + j;
        if (l >= shape.length) continue;
        float& delta = deltas[(static_cast<int64_t>(block) * clusters.rows + first + cluster) * shape.length + l];
        delta = ((is_first ? 0.0f : delta) + sums.values[i][j]) / members;
      }
    }
  }
};

// The input's delta: an element gets the deltas of the centroids that it was replaced by.
struct InputDeltaKernel {
  static constexpr int kThreads = 256;
  using Shared = NothingShared;

  Shape shape;
  int32_t rows;
  const int32_t* ids;   // [B, V]
  const float* deltas;  // [B, rows, L]
  float* x;             // as the input

  REUSE_BOTH int32_t elements() const { return shape.in_channels * shape.in_pixels(); }  // of an image
  REUSE_BOTH int32_t strips() const { return divide_up(elements(), kThreads); }
  REUSE_BOTH int64_t blocks() const { return static_cast<int64_t>(shape.batch) * strips(); }
  REUSE_BOTH void run(const Group<kThreads>& group, Shared&) const {
    const int32_t image = static_cast<int32_t>(group.block / strips());
    const int32_t first = static_cast<int32_t>(group.block % strips()) * kThreads;
    group.phase([&](int thread) {
      if (thread >= elements() - first) return;
      const int32_t at = first + thread;
      const int32_t channel = shape.input_pixel_major ? at % shape.in_channels : at / shape.in_pixels();
      const int32_t pixel = shape.input_pixel_major ? at / shape.in_channels : at % shape.in_pixels();
      x[static_cast<int64_t>(image) * elements() + at] = delta(image, channel, pixel);
    });
  }

 private:
  REUSE_BOTH float delta(int32_t image, int32_t channel, int32_t pixel) const {
    const int32_t group = channel / shape.group_in_channels, own = channel % shape.group_in_channels;
    if (!shape.patch) return centroid_delta(group, own, image * shape.in_pixels() + pixel);
    float sum = 0.0f;
    for (int32_t tap_row = 0; tap_row < shape.kernel_h; ++tap_row) {
      for (int32_t tap_column = 0; tap_column < shape.kernel_w; ++tap_column) {
        const int32_t window = window_at(shape, pixel / shape.in_w, pixel % shape.in_w, tap_row, tap_column);
        if (window < 0) continue;
        const int32_t tap = tap_row * shape.kernel_w + tap_column;
        sum += centroid_delta(group, tap * shape.group_in_channels + own, image * shape.out_pixels() + window);
      }
    }
    return sum;
  }

  // Of a column of the group's vectors.
  REUSE_BOTH float centroid_delta(int32_t group, int32_t column, int32_t vector) const {
    const int32_t block = group * shape.blocks_per_group + column / shape.length;
    const int32_t id = ids[static_cast<int64_t>(block) * shape.vectors + vector];
    return deltas[(static_cast<int64_t>(block) * rows + id) * shape.length + column % shape.length];
  }
};

}  // namespace reuse::cuda
