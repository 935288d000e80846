// Tables as a sequence of kernels, for any launcher: weights in panels, and their products with centroids.
#pragma once

#include <algorithm>

#include "fill_kernel.h"
#include "gather_kernels.h"
#include "product_kernels.h"
#include "setup.h"

namespace reuse::cuda {

inline Panels make_panels(const Shape& shape, int32_t tile) {
  return {tile, divide_up(shape.group_out_channels, tile), shape.num_blocks, shape.length, shape.taps};
}

// Output channels of a tile: whole loads of 16 bytes of any entry, of which these are float16 or wider.
inline int32_t tile_channels_of(const Shape& shape, int32_t at_once = kEntriesAtOnce<Half>) {
  return std::min(kMostTileChannels, divide_up(shape.group_out_channels, at_once) * at_once);
}

// Weights as ReuseConv packs them: panels, and the bounds of their columns.
template <typename Packed>
struct PackedWeightsView {
  Packed* panels;
  uint32_t* columns;

  static PackedWeightsView take(Arena& arena, const Panels& sizes) {
    Packed* panels = arena.take<Packed>(sizes.size());
    return {panels, arena.take<uint32_t>(sizes.num_blocks)};
  }
};

template <typename Weight, typename Packed, typename Launcher>
void pack_weights(Launcher& launcher, const Shape& shape, const Panels& sizes, const Weight* weights,
                  const PackedWeightsView<Packed>& packed) {
  const PackKernel<Weight, Packed> pack{shape, sizes, weights, packed.panels};
  launcher.launch(pack, pack.blocks());
  fill(launcher, packed.columns, sizes.num_blocks, uint32_t{0});
  const ColumnBoundKernel<Packed> bound{sizes, packed.panels, packed.columns};
  launcher.launch(bound, bound.blocks());
}

// Few large launches keep a GPU busy, but tables that are written and read together should fit the L2 cache.
inline int32_t tiles_at_once(const Panels& panels, int32_t rows, size_t entry_bytes) {
  const int64_t together = std::min(int64_t{24} << 20, table_memory() / 16);
  const int64_t bytes = static_cast<int64_t>(entry_bytes) * panels.num_blocks * std::max(rows, 1) * panels.width();
  return static_cast<int32_t>(std::clamp<int64_t>(together / bytes, 1, panels.tiles));
}

// What an output is computed from, some tiles of its channels at a time.
template <typename T, typename Entry>
struct TileOperands {
  Shape shape;
  Panels panels;
  int32_t rows;  // of centroids and tables, per block
  const int32_t *ids, *counts;
  const T* centroids;  // [B, rows, L]
  const T* packed;     // all panels
  EntryScale scale;
  const T* x;  // of the vectors without a row; null: all have one
  const T* bias;
  ActivationOperands activation;
  Entry* table;  // of as many tiles as are run together
  T* y;
};

template <typename Kernel, typename Launcher>
void launch_product(Launcher& launcher, const Kernel& product) {
  const int64_t blocks = std::min(product.pieces(), shared_blocks(launcher));
  to_int32(product.pieces() + blocks, "the number of a table's pieces");
  launcher.launch(product, blocks);
}

template <typename Kernel, typename Launcher>
void launch_gather(Launcher& launcher, const Kernel& gather) {
  if (!gather.table.can_be_counted()) {
    throw std::invalid_argument("a table of " + std::to_string(gather.table.rows) + " rows of " +
                                std::to_string(gather.table.row_stride) +
                                " entries is more than the CUDA kernels can count; run smaller batches or inputs");
  }
  launcher.launch(gather, gather.blocks());
}

// Writes the output channels of `count` tiles.
template <typename Product, typename T, typename Entry, typename Launcher>
void run_tiles(Launcher& launcher, const TileOperands<T, Entry>& o, int32_t first, int32_t count) {
  const Shape& s = o.shape;
  const T* panel = o.packed + o.panels.offset(first, 0);
  launcher.begin_stage(Stage::kGemm);
  const ProductKernel<Product, T, Entry> product{count,    s.num_blocks, o.rows, s.length, o.panels.width(),
                                                 o.counts, o.centroids,  panel,  o.scale,  o.table};
  launch_product(launcher, product);
  launcher.begin_stage(Stage::kGather);
  const int64_t tile_stride = static_cast<int64_t>(s.num_blocks) * o.rows * o.panels.width();
  const DenseView<T, T> dense{o.x, o.x == nullptr ? nullptr : panel, o.panels};
  const GatherKernel<T, T, Entry> gather{s,
                                         {o.table, o.rows, o.panels.width(), o.panels.tile, tile_stride, true},
                                         o.scale,
                                         dense,
                                         o.ids,
                                         o.bias,
                                         o.activation,
                                         {first, count, o.panels.tile},
                                         o.y,
                                         nullptr};
  launch_gather(launcher, gather);
}

// Writes the whole output, so many tiles `together`.
template <typename Product, typename T, typename Entry, typename Launcher>
void multiply_and_gather(Launcher& launcher, const TileOperands<T, Entry>& operands, int32_t together) {
  for (int32_t tile = 0; tile < operands.panels.tiles; tile += together) {
    run_tiles<Product>(launcher, operands, tile, std::min(together, operands.panels.tiles - tile));
  }
}

// Operator CentroidGemm, in one tile of all of a group's channels.
template <typename T, typename Product>
class StagedProduct {
 public:
  StagedProduct(const Blocking& blocking, int64_t capacity)
      : shape_(make_shape(blocking)),
        panels_(make_panels(shape_, shape_.group_out_channels)),
        rows_(to_int32(capacity, "the number of centroids")) {}

  size_t scratch_bytes() const {
    Arena arena(nullptr);
    PackedWeightsView<T>::take(arena, panels_);
    return arena.used();
  }

  template <typename Launcher>
  void run(Launcher& launcher, const T* centroids, const int32_t* counts, const T* weights, T* table,
           void* scratch) const {
    Arena arena(scratch);
    const auto packed = PackedWeightsView<T>::take(arena, panels_);
    pack_weights(launcher, shape_, panels_, weights, packed);
    fill(launcher, table, static_cast<int64_t>(shape_.num_blocks) * rows_ * panels_.width(), T{});
    const ProductKernel<Product, T, T> product{
        1,      shape_.num_blocks, rows_,         shape_.length,         panels_.width(),
        counts, centroids,         packed.panels, {nullptr, nullptr, 0}, table};
    launch_product(launcher, product);
  }

 private:
  Shape shape_;
  Panels panels_;
  int32_t rows_;
};

}  // namespace reuse::cuda
