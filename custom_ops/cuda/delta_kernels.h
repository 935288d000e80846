// The backward pass's sums: the output's deltas, added up by the cluster of the vectors that they were computed from
// (training paper, Eq. 8). Vectors are taken in the order of their clusters, so that sums stay in registers, no thread
// adds to memory that others add to, and the order of summands never changes.
#pragma once

#include "gather_kernels.h"
#include "vectors.h"

namespace reuse::cuda {

// Turns [N, M, pixels] into [N, pixels, M].
struct PixelMajorKernel {
  static constexpr int kThreads = 256;
  static constexpr int32_t kSide = 32;
  struct Shared {
    float tile[kSide][kSide + 1];
  };

  int32_t batch, channels, pixels;
  const float* planes;
  float* rows;

  REUSE_BOTH int32_t down() const { return divide_up(channels, kSide); }
  REUSE_BOTH int32_t across() const { return divide_up(pixels, kSide); }
  REUSE_BOTH int64_t blocks() const { return static_cast<int64_t>(batch) * down() * across(); }
  REUSE_BOTH void run(const Group<kThreads>& group, Shared& shared) const {
    const int32_t pixel = static_cast<int32_t>(group.block % across()) * kSide;
    const int32_t channel = static_cast<int32_t>(group.block / across() % down()) * kSide;
    const int64_t image = group.block / across() / down() * pixels * channels;
    group.phase([&](int thread) {
      for (int i = thread; i < kSide * kSide; i += kThreads) {
        const int32_t c = channel + i / kSide, p = pixel + i % kSide;
        if (c < channels && p < pixels) {
          shared.tile[i / kSide][i % kSide] = planes[image + static_cast<int64_t>(c) * pixels + p];
        }
      }
    });
    group.phase([&](int thread) {
      for (int i = thread; i < kSide * kSide; i += kThreads) {
        const int32_t c = channel + i % kSide, p = pixel + i / kSide;
        if (c < channels && p < pixels) {
          rows[image + static_cast<int64_t>(p) * channels + c] = shared.tile[i % kSide][i / kSide];
        }
      }
    });
  }
};

// Vectors that one block of threads takes, in the order of their clusters.
constexpr int32_t kSumChunk = 128;

// Clusters with their members in order.
struct OrderedClusters {
  int32_t rows;           // of centroids and sums, per block
  const int32_t* ids;     // [B, V]
  const int32_t* order;   // [B, V]: vectors by cluster, and within one as they come
  const int32_t* starts;  // [B, rows + 1]: where clusters begin in `order`

  REUSE_BOTH const int32_t* start_of(int32_t block, int32_t cluster) const {
    return starts + static_cast<int64_t>(block) * (rows + 1) + cluster;
  }
  REUSE_BOTH int32_t members(int32_t block, int32_t cluster) const {
    const int32_t* start = start_of(block, cluster);
    return start[1] - start[0];
  }
};

// Some output channels of every group, and their deltas summed by cluster.
struct ChannelSums {
  int32_t first, channels;  // within a group
  int32_t tile;             // to which `channels` are padded
  float* sums;              // [B, rows, taps, tile]
  float* parts;  // [B, chunks, 2, taps, tile]: of the clusters that a chunk has a part of: its first, its last
};

// Sums of one chunk of vectors. A thread has a tap and as many channels as one load brings.
struct SumDeltasKernel {
  static constexpr int kThreads = 128;
  static constexpr int32_t kAtOnce = kEntriesAtOnce<float>;
  static constexpr int32_t kAhead = 4;  // vectors whose deltas are read side by side
  struct Shared {
    int32_t id[kSumChunk];
    int32_t image[kSumChunk];  // its first output pixel; layout patch: the output pixel itself
    int32_t row[kSumChunk], column[kSumChunk];
  };

  Shape shape;
  const float* deltas;  // [rows, M]
  bool aligned;         // whether every group's multiple of 16 bytes is one in memory
  OrderedClusters clusters;
  ChannelSums out;

  REUSE_BOTH static int32_t chunks(const Shape& shape) { return divide_up(shape.vectors, kSumChunk); }
  REUSE_BOTH int32_t items() const { return shape.taps * (out.tile / kAtOnce); }
  REUSE_BOTH int32_t strips() const { return divide_up(items(), kThreads); }
  REUSE_BOTH int64_t blocks() const { return static_cast<int64_t>(shape.num_blocks) * chunks(shape) * strips(); }

  REUSE_BOTH void run(const Group<kThreads>& group, Shared& shared) const {
    const int32_t strip = static_cast<int32_t>(group.block % strips());
    const int32_t chunk = static_cast<int32_t>(group.block / strips() % chunks(shape));
    const int32_t block = static_cast<int32_t>(group.block / strips() / chunks(shape));
    group.phase([&](int thread) { load(block, chunk, thread, shared); });
    group.phase([&](int thread) { sum(block, chunk, strip * kThreads + thread, shared); });
  }

 private:
  REUSE_BOTH int32_t count(int32_t chunk) const { return smaller(kSumChunk, shape.vectors - chunk * kSumChunk); }

  REUSE_BOTH void load(int32_t block, int32_t chunk, int thread, Shared& shared) const {
    const int64_t offset = static_cast<int64_t>(block) * shape.vectors;
    for (int i = thread; i < count(chunk); i += kThreads) {
      const int32_t vector = clusters.order[offset + chunk * kSumChunk + i];
      shared.id[i] = clusters.ids[offset + vector];
      shared.image[i] = vector;
      if (shape.patch) continue;
      const int32_t pixel = vector % shape.in_pixels();
      shared.image[i] = vector / shape.in_pixels() * shape.out_pixels();
      shared.row[i] = pixel / shape.in_w;
      shared.column[i] = pixel % shape.in_w;
    }
  }

  REUSE_BOTH void sum(int32_t block, int32_t chunk, int32_t item, const Shared& shared) const {
    if (item >= items()) return;
    const int32_t lanes = out.tile / kAtOnce, tap = item / lanes, channel = item % lanes * kAtOnce;
    const int32_t wanted = larger(0, out.channels - channel);
    const int64_t start = shape.group_of(block) * shape.group_out_channels + out.first + channel;
    int32_t id = -1;
    float sums[kAtOnce] = {};
    for (int32_t first = 0; first < count(chunk); first += kAhead) {
      float own[kAhead][kAtOnce];
      REUSE_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        const int32_t pixel = first + i < count(chunk) ? pixel_of(shared, first + i, tap) : -1;
        const bool used = pixel >= 0 && wanted > 0;
        read_entries(deltas + (used ? static_cast<int64_t>(pixel) * shape.out_channels + start : 0), used ? wanted : 0,
                     aligned, own[i]);
      }
      REUSE_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        if (first + i >= count(chunk)) break;
        if (shared.id[first + i] != id) {
          put(block, chunk, id, tap, channel, sums);
          id = shared.id[first + i];
          for (float& value : sums) value = 0.0f;
        }
        REUSE_UNROLL
        for (int j = 0; j < kAtOnce; ++j) sums[j] += own[i][j];
      }
    }
    put(block, chunk, id, tap, channel, sums);
  }

  // The output pixel, over all images, whose tap reads a vector; or -1.
  REUSE_BOTH int32_t pixel_of(const Shared& shared, int32_t i, int32_t tap) const {
    if (shape.patch) return shared.image[i];
    const int32_t pixel = window_at(shape, shared.row[i], shared.column[i], tap / shape.kernel_w, tap % shape.kernel_w);
    return pixel < 0 ? -1 : shared.image[i] + pixel;
  }

  // Writes a cluster's sums, or the part that this chunk has of them.
  REUSE_BOTH void put(int32_t block, int32_t chunk, int32_t id, int32_t tap, int32_t channel,
                      const float (&values)[kAtOnce]) const {
    if (id < 0) return;
    const int32_t begin = chunk * kSumChunk, end = begin + count(chunk);
    const int32_t* start = clusters.start_of(block, id);
    const int64_t width = static_cast<int64_t>(shape.taps) * out.tile;
    const int64_t part = (static_cast<int64_t>(block) * chunks(shape) + chunk) * 2 + (start[0] > begin ? 1 : 0);
    float* row = start[0] >= begin && start[1] <= end
                     ? out.sums + (static_cast<int64_t>(block) * clusters.rows + id) * width
                     : out.parts + part * width;
    REUSE_UNROLL
    for (int j = 0; j < kAtOnce; ++j) row[tap * out.tile + channel + j] = values[j];
  }
};

// Adds up the parts of each cluster that begins in a chunk and ends in a later one.
struct JoinPartsKernel {
  static constexpr int kThreads = 128;
  using Shared = NothingShared;

  Shape shape;
  OrderedClusters clusters;
  ChannelSums out;

  REUSE_BOTH int32_t width() const { return shape.taps * out.tile; }
  REUSE_BOTH int32_t chunks() const { return SumDeltasKernel::chunks(shape); }
  REUSE_BOTH int32_t strips() const { return divide_up(width(), kThreads); }
  REUSE_BOTH int64_t blocks() const { return static_cast<int64_t>(shape.num_blocks) * chunks() * strips(); }

  REUSE_BOTH void run(const Group<kThreads>& group, Shared&) const {
    const int32_t strip = static_cast<int32_t>(group.block % strips()) * kThreads;
    const int32_t chunk = static_cast<int32_t>(group.block / strips() % chunks());
    const int32_t block = static_cast<int32_t>(group.block / strips() / chunks());
    const int32_t begin = chunk * kSumChunk, end = smaller(begin + kSumChunk, shape.vectors);
    const int64_t offset = static_cast<int64_t>(block) * shape.vectors;
    const int32_t last = clusters.ids[offset + clusters.order[offset + end - 1]];
    const int32_t* start = clusters.start_of(block, last);
    if (start[0] < begin || start[1] <= end) return;
    group.phase([&](int thread) {
      if (strip + thread < width()) join(block, chunk, last, start, strip + thread);
    });
  }

 private:
  REUSE_BOTH void join(int32_t block, int32_t chunk, int32_t id, const int32_t* start, int32_t column) const {
    const float* part = out.parts + (static_cast<int64_t>(block) * chunks() + chunk) * 2 * width() + column;
    float sum = part[start[0] > chunk * kSumChunk ? width() : 0];
    const int32_t more = (start[1] - 1) / kSumChunk - chunk;
    REUSE_UNROLL_8
    for (int32_t i = 1; i <= more; ++i) sum += part[static_cast<int64_t>(i) * 2 * width()];
    out.sums[(static_cast<int64_t>(block) * clusters.rows + id) * width() + column] = sum;
  }
};

}  // namespace reuse::cuda
