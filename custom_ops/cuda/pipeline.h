// Operators as sequences of kernels, for any launcher: what is launched depends on shapes only, never on data, so
// that nothing waits for the device and a session can be captured in a CUDA graph.
#pragma once

#include <algorithm>

#include "clustering.h"
#include "gather_kernels.h"
#include "hash_kernels.h"
#include "pool_kernel.h"
#include "products.h"
#include "slot_clustering.h"

namespace reuse::cuda {

// Bytes of a block's clusters in memory, of everything that a cluster of each block needs.
template <typename T, typename Entry>
int64_t bytes_per_row(const Shape& shape, const Panels& panels) {
  const int64_t sums = shape.length * int64_t{sizeof(int64_t)} + int64_t{sizeof(int32_t) + sizeof(int64_t)};
  const int64_t own = sums + shape.length * int64_t{sizeof(T)} + panels.width() * int64_t{sizeof(Entry)};
  return own * shape.num_blocks;
}

// Everything of a ReuseConv that does not change from run to run of the same shape.
struct FusedPlan {
  Shape shape;
  Numbering numbering;
  Panels panels;
  bool by_slot;            // whether sums are kept by slot, see slot_kernels.h
  int32_t rows;            // of sums, centroids and tables, per block
  int32_t tiles_together;  // whose tables exist at once

  // For centroids of type T, and a table of type Entry.
  template <typename T, typename Entry>
  static FusedPlan make(const Blocking& blocking, const HashOperands& hash, const ClusterAttributes& cluster,
                        const PathLimits& limits) {
    FusedPlan p{};
    p.shape = make_shape(blocking);
    p.panels = make_panels(p.shape, tile_channels_of(p.shape));
    const int32_t bits = code_bits(hash);
    const int64_t budget = table_memory() / bytes_per_row<T, Entry>(p.shape, p.panels);
    p.numbering = plan_numbering(p.shape, cluster, bits, budget, limits);
    p.by_slot = sums_by_slot(p.shape, p.numbering, limits);
    int64_t per_unit = p.numbering.limit;
    if (bits < 31) per_unit = std::min(per_unit, int64_t{1} << bits);
    if (p.by_slot) per_unit = p.numbering.units.slots;
    p.rows = to_int32(per_unit * p.numbering.units.count, "the number of clusters");
    p.tiles_together = tiles_at_once(p.panels, p.rows, sizeof(Entry));
    return p;
  }
};

// Operands of a ReuseConv in device memory.
template <typename T>
struct FusedOperands {
  const T *x, *bias;
  HashOperands hash;
  ActivationOperands activation;
  T* y;
  int64_t* statistics;  // [3], see StatisticsKernel; or null
};

// Product and table of a mode: strict float32, TF32 with float16 tables, or float16.
template <typename T, typename Product, typename Entry>
class Fused {
 public:
  using Packed = T;

  static FusedPlan plan(const Blocking& blocking, const HashOperands& hash, const ClusterAttributes& cluster,
                        const PathLimits& limits = {}) {
    return FusedPlan::make<T, Entry>(blocking, hash, cluster, limits);
  }

  explicit Fused(const FusedPlan& plan) : plan_(plan) {}

  size_t scratch_bytes() const {
    Arena arena(nullptr);
    take(arena);
    return arena.used();
  }

  template <typename Launcher>
  void run(Launcher& launcher, const FusedOperands<T>& operands, const PackedWeightsView<Packed>& weights,
           void* scratch) const {
    Arena arena(scratch);
    const Buffers b = take(arena);
    const Shape& s = plan_.shape;
    if (s.vectors == 0) {
      fill(launcher, b.counts, s.num_blocks, int32_t{0});
    } else if (plan_.by_slot) {
      cluster_by_slot(launcher, operands, b);
    } else {
      cluster(launcher, operands, b);
    }
    EntryScale scale{nullptr, nullptr, 0};
    if (sizeof(Entry) == 2) {
      scale = {b.largest, weights.columns, plan_.numbering.angular ? log2_up(s.length) + 1 : 1};
    }
    const TileOperands<T, Entry> tiles{
        s,          plan_.panels,  plan_.rows,          b.ids,   b.counts,  b.centroids, weights.panels, scale,
        operands.x, operands.bias, operands.activation, b.table, operands.y};
    multiply_and_gather<Product>(launcher, tiles, plan_.tiles_together);
    launcher.end_stages();
  }

 private:
  struct Buffers {
    // What sums by slot need, or what numbering needs.
    SlotBuffers slots;
    NumberingBuffers numbering;
    int64_t* codes;

    const uint32_t* largest;  // [B]
    int32_t *ids, *counts;
    MemberSums sums;
    T* centroids;
    Entry* table;
  };

  Buffers take(Arena& arena) const {
    const Shape& s = plan_.shape;
    const int64_t all = static_cast<int64_t>(s.num_blocks) * s.vectors;
    const int64_t all_rows = static_cast<int64_t>(s.num_blocks) * plan_.rows;
    Buffers b{};
    if (plan_.by_slot) {
      b.slots = SlotBuffers::take(arena, s, plan_.rows);
      b.largest = b.slots.largest;
    } else {
      b.numbering = NumberingBuffers::take(arena, s, plan_.numbering);
      b.codes = arena.take<int64_t>(all);
      b.largest = b.numbering.largest;
    }
    b.ids = arena.take<int32_t>(all);
    b.counts = arena.take<int32_t>(s.num_blocks);
    b.sums = take_sums(arena, s, plan_.numbering, plan_.rows);
    b.centroids = arena.take<T>(all_rows * s.length);
    b.table = arena.take<Entry>(all_rows * plan_.panels.width() * plan_.tiles_together);
    return b;
  }

  template <typename Launcher>
  void cluster(Launcher& launcher, const FusedOperands<T>& operands, const Buffers& b) const {
    const Shape& s = plan_.shape;
    launcher.begin_stage(Stage::kHash);
    inspect(launcher, s, operands.hash, b.numbering, operands.x, b.codes);
    number_clusters(launcher, s, plan_.numbering, b.numbering, operands.x, b.codes,
                    {b.ids, b.counts, false, {operands.statistics}}, b.sums);
    launcher.begin_stage(Stage::kCluster);
    write_centroids(launcher, s, plan_.numbering, b.numbering,
                    CentroidOperands<T, T>{operands.x, b.ids, b.counts, b.sums, false, b.centroids});
  }

  template <typename Launcher>
  void cluster_by_slot(Launcher& launcher, const FusedOperands<T>& operands, const Buffers& b) const {
    launcher.begin_stage(Stage::kHash);
    hash_into_slots(launcher, plan_.shape, plan_.numbering.units, operands.hash, b.slots, operands.x, b.sums, b.ids);
    number_slots(launcher, plan_.shape, b.slots, b.sums, b.counts, {operands.statistics});
    launcher.begin_stage(Stage::kCluster);
    divide_slots(launcher, plan_.shape, b.slots, operands.x, b.sums, b.counts, b.ids, b.centroids);
  }

  FusedPlan plan_;
};

template <typename T>
using StrictFused = Fused<T, StrictProduct, float>;
template <typename T>
using TensorFused = Fused<T, TensorProduct<T>, Half>;

// Operator Gather.
template <typename T, typename Launcher>
void run_gather(Launcher& launcher, const Shape& shape, const ActivationOperands& activation, const T* table,
                int64_t capacity, const int32_t* ids, const T* bias, T* y) {
  const int32_t rows = to_int32(capacity, "the number of table rows");
  const int32_t width = static_cast<int32_t>(shape.table_width()), channels = shape.group_out_channels;
  const ChannelTiles tiles{0, divide_up(channels, kMostTileChannels), kMostTileChannels};
  const GatherKernel<T, T, T> gather{shape,
                                     {table, rows, width, channels, kMostTileChannels, has_whole_rows(table, channels)},
                                     {nullptr, nullptr, 0},
                                     {nullptr, nullptr, {}},
                                     ids,
                                     bias,
                                     activation,
                                     tiles,
                                     y,
                                     nullptr};
  launch_gather(launcher, gather);
}

// Operator Pool.
template <typename T, typename Launcher>
void run_pool(Launcher& launcher, const PoolAttributes& a, int64_t batch, const PoolAxis& height, const PoolAxis& width,
              int64_t channels, const T* x, T* y) {
  PoolShape s{};
  s.in_h = to_int32(height.in, "the input's height");
  s.in_w = to_int32(width.in, "the input's width");
  s.out_h = to_int32(height.out, "the output's height");
  s.out_w = to_int32(width.out, "the output's width");
  s.channels = to_int32(channels, "the number of channels");
  s.kernel_h = static_cast<int32_t>(a.kernel_h);
  s.kernel_w = static_cast<int32_t>(a.kernel_w);
  s.stride_h = static_cast<int32_t>(a.stride_h);
  s.stride_w = static_cast<int32_t>(a.stride_w);
  s.pad_top = static_cast<int32_t>(height.begin_pad);
  s.pad_left = static_cast<int32_t>(width.begin_pad);
  s.average = a.mode == PoolMode::kAverage;
  s.count_include_pad = a.count_include_pad;
  const PoolKernel<T> pool{s, batch * height.out * width.out * channels, x, y};
  launcher.launch(pool, pool.blocks());
}

}  // namespace reuse::cuda
