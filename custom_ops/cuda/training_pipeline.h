// Forward and backward pass of training as sequences of kernels, for any launcher.
#pragma once

#include "clustering.h"
#include "gradient_kernels.h"
#include "products.h"
#include "reuse/cuda_training.h"

namespace reuse::cuda {

// Clusters whose codes have no more bits than their family gives them.
inline StagedCluster<float> clustering_of(const Blocking& blocking, const HashAttributes& hash,
                                          const ClusterAttributes& cluster) {
  return {blocking, cluster, code_bits(make_hash(hash, {}))};
}

// How tables and sums are cut into tiles of output channels, for `rows` of clusters per block.
struct TrainingPlan {
  Shape shape;
  Panels panels;
  int32_t rows;

  // `more_rows` per block are needed beside those of clusters. Tiles are narrower where wide ones take much memory.
  static TrainingPlan make(const Blocking& blocking, int64_t rows, int64_t more_rows) {
    constexpr int32_t kFewestChannels = 8;
    TrainingPlan p{};
    p.shape = make_shape(blocking);
    to_int32(int64_t{p.shape.in_channels} * p.shape.in_pixels(), "the size of an image");
    p.rows = to_int32(rows, "the number of clusters");
    int32_t tile = tile_channels_of(p.shape);
    const int64_t per_channel = int64_t{sizeof(float)} * p.shape.num_blocks * (rows + more_rows) * p.shape.taps;
    while (tile > kFewestChannels && per_channel * tile > table_memory()) {
      tile = divide_up(tile / 2, kFewestChannels) * kFewestChannels;
    }
    p.panels = make_panels(p.shape, tile);
    return p;
  }

  int64_t all_rows() const { return static_cast<int64_t>(shape.num_blocks) * rows; }
};

// y from clusters that all have rows: as ReuseConv, but with weights that change from call to call.
class ForwardPass {
 public:
  ForwardPass(const Blocking& blocking, int64_t rows)
      : plan_(TrainingPlan::make(blocking, rows, 0)),
        together_(tiles_at_once(plan_.panels, plan_.rows, sizeof(float))) {}

  size_t scratch_bytes() const {
    Arena arena(nullptr);
    take(arena);
    return arena.used();
  }

  // With `tf32` products may be rounded to TF32; tables are float32 either way.
  template <typename Launcher>
  void run(Launcher& launcher, bool tf32, const DeviceClusters& clusters, const float* weights, const float* bias,
           float* y, void* scratch) const {
    Arena arena(scratch);
    const Buffers b = take(arena);
    const PackKernel<float, float> pack{plan_.shape, plan_.panels, weights, b.packed};
    launcher.launch(pack, pack.blocks());
    const TileOperands<float, float> tiles{plan_.shape,
                                           plan_.panels,
                                           plan_.rows,
                                           clusters.ids,
                                           clusters.counts,
                                           clusters.centroids,
                                           b.packed,
                                           {nullptr, nullptr, 0},
                                           nullptr,
                                           bias,
                                           {Activation::kNone, 0.0f, 0.0f},
                                           b.table,
                                           y};
    if (tf32) {
      multiply_and_gather<TensorProduct<float>>(launcher, tiles, together_);
    } else {
      multiply_and_gather<StrictProduct>(launcher, tiles, together_);
    }
  }

 private:
  struct Buffers {
    float *packed, *table;
  };

  Buffers take(Arena& arena) const {
    float* packed = arena.take<float>(plan_.panels.size());
    return {packed, arena.take<float>(plan_.all_rows() * plan_.panels.width() * together_)};
  }

  TrainingPlan plan_;
  int32_t together_;  // tiles whose tables exist at once
};

// The gradients, one tile of output channels after the other. All sums are float32 on CUDA cores.
class BackwardPass {
 public:
  BackwardPass(const Blocking& blocking, int64_t rows)
      : plan_(TrainingPlan::make(blocking, rows, 2 * divide_up<int64_t>(blocking.vectors, kSumChunk))) {}

  size_t scratch_bytes() const {
    Arena arena(nullptr);
    take(arena);
    return arena.used();
  }

  template <typename Launcher>
  void run(Launcher& launcher, const DeviceClusters& clusters, const float* weights, const float* dy,
           const Gradients& gradients, void* scratch) const {
    const Shape& s = plan_.shape;
    const Panels& panels = plan_.panels;
    if (s.vectors == 0) {
      if (gradients.weights != nullptr) fill(launcher, gradients.weights, weights_of(s), 0.0f);
      return;
    }
    Arena arena(scratch);
    const Buffers b = take(arena);
    if (!s.output_pixel_major) {
      const PixelMajorKernel turn{s.batch, s.out_channels, s.out_pixels(), dy, b.pixel_major};
      launcher.launch(turn, turn.blocks());
      dy = b.pixel_major;
    }
    if (gradients.x != nullptr) {
      const PackKernel<float, float> pack{s, panels, weights, b.packed};
      launcher.launch(pack, pack.blocks());
    }
    for (int32_t tile = 0; tile < panels.tiles; ++tile) run_tile(launcher, clusters, dy, gradients, b, tile);
    if (gradients.x == nullptr) return;
    const InputDeltaKernel input{s, plan_.rows, clusters.ids, b.centroids, gradients.x};
    launcher.launch(input, input.blocks());
  }

 private:
  struct Buffers {
    float *packed, *pixel_major, *sums, *parts, *centroids;
  };

  static int64_t weights_of(const Shape& s) {
    return static_cast<int64_t>(s.out_channels) * s.group_in_channels * s.kernel_h * s.kernel_w;
  }

  Buffers take(Arena& arena) const {
    const Shape& s = plan_.shape;
    const int64_t chunks = SumDeltasKernel::chunks(s), width = plan_.panels.width();
    Buffers b{};
    b.packed = arena.take<float>(plan_.panels.size());
    if (!s.output_pixel_major) b.pixel_major = arena.take<float>(static_cast<int64_t>(s.rows) * s.out_channels);
    b.sums = arena.take<float>(plan_.all_rows() * width);
    b.parts = arena.take<float>(s.num_blocks * chunks * 2 * width);
    b.centroids = arena.take<float>(plan_.all_rows() * s.length);
    return b;
  }

  template <typename Launcher>
  void run_tile(Launcher& launcher, const DeviceClusters& clusters, const float* dy, const Gradients& gradients,
                const Buffers& b, int32_t tile) const {
    const Shape& s = plan_.shape;
    const Panels& panels = plan_.panels;
    const int32_t first = tile * panels.tile;
    const ChannelSums sums{first, std::min(panels.tile, s.group_out_channels - first), panels.tile, b.sums, b.parts};
    const OrderedClusters ordered{plan_.rows, clusters.ids, clusters.order, clusters.starts};
    const SumDeltasKernel sum{s, dy, is_aligned(dy), ordered, sums};
    launcher.launch(sum, sum.blocks());
    const JoinPartsKernel join{s, ordered, sums};
    launcher.launch(join, join.blocks());
    if (gradients.weights != nullptr) {
      const WeightGradientKernel weights{s, plan_.rows, clusters.counts, clusters.centroids, sums, gradients.weights};
      launcher.launch(weights, weights.blocks());
    }
    if (gradients.x == nullptr) return;
    const CentroidDeltaKernel deltas{
        s,         clusters.counts,          ordered,    sums, b.packed + panels.offset(tile, 0),
        tile == 0, tile == panels.tiles - 1, b.centroids};
    launcher.launch(deltas, deltas.blocks());
  }

  // Whether every fourth channel of a group begins at a multiple of 16 bytes.
  bool is_aligned(const float* dy) const {
    constexpr int32_t kChannels = kEntriesAtOnce<float>;
    return plan_.shape.group_out_channels % kChannels == 0 &&
           reinterpret_cast<uintptr_t>(dy) % (kChannels * sizeof(float)) == 0;
  }

  TrainingPlan plan_;
};

}  // namespace reuse::cuda
