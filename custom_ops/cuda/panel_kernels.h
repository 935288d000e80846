// Weights as products and gathering need them, and what bounds the entries of tables.
#pragma once

#include "vectors.h"

namespace reuse::cuda {

// Weights in the order that products and gathering need: for each block and tile of output channels a panel
// [L, taps, tile], zero where a channel or an element is none. The tile is the last one's padded size, too.
struct Panels {
  int32_t tile;        // output channels
  int32_t tiles;       // per group
  int32_t num_blocks;  // of all groups
  int32_t length, taps;

  REUSE_BOTH int32_t width() const { return taps * tile; }
  REUSE_BOTH int64_t panel_size() const { return static_cast<int64_t>(length) * width(); }
  REUSE_BOTH int64_t size() const { return panel_size() * tiles * num_blocks; }
  REUSE_BOTH int64_t offset(int32_t tile_index, int32_t block) const {
    return (static_cast<int64_t>(tile_index) * num_blocks + block) * panel_size();
  }
};

// Where the weight of a block's element l, tap and output channel m of its group is in [M, Ic/group, kh, kw].
REUSE_BOTH inline int64_t weight_index(const Shape& shape, int32_t block, int32_t l, int32_t tap, int32_t m) {
  int32_t channel = shape.block_start(block) + l;
  if (shape.patch) {
    tap = channel / shape.group_in_channels;
    channel %= shape.group_in_channels;
  }
  const int64_t kernel = static_cast<int64_t>(shape.group_of(block)) * shape.group_out_channels + m;
  const int64_t window = static_cast<int64_t>(shape.kernel_h) * shape.kernel_w;
  return (kernel * shape.group_in_channels + channel) * window + tap;
}

template <typename Weight, typename Packed>
struct PackKernel {
  static constexpr int kThreads = 256;
  using Shared = NothingShared;

  Shape shape;
  Panels panels;
  const Weight* weights;  // [M, Ic/group, kh, kw]
  Packed* packed;         // [tiles, B, L, taps, tile]

  REUSE_BOTH int64_t blocks() const { return divide_up<int64_t>(panels.size(), kThreads); }
  REUSE_BOTH void run(const Group<kThreads>& group, Shared&) const {
    group.phase([&](int thread) {
      const int64_t at = group.block * kThreads + thread;
      if (at < panels.size()) packed[at] = from_float<Packed>(weight(at));
    });
  }

 private:
  REUSE_BOTH float weight(int64_t at) const {
    const int32_t channel_in_tile = static_cast<int32_t>(at % panels.tile);
    const int32_t tap = static_cast<int32_t>(at / panels.tile % panels.taps);
    const int32_t l = static_cast<int32_t>(at / panels.width() % panels.length);
    const int32_t block = static_cast<int32_t>(at / panels.panel_size() % panels.num_blocks);
    const int32_t tile = static_cast<int32_t>(at / panels.panel_size() / panels.num_blocks);
    const int32_t m = tile * panels.tile + channel_in_tile;
    if (m >= shape.group_out_channels || l >= shape.block_length(block)) return 0.0f;
    return to_float(weights[weight_index(shape, block, l, tap, m)]);
  }
};

// Finds, per block, the largest sum of magnitudes of a column: with the largest magnitude of an input it bounds the
// entries of tables.
template <typename Packed>
struct ColumnBoundKernel {
  static constexpr int kThreads = 128;
  using Shared = NothingShared;

  Panels panels;
  const Packed* packed;
  uint32_t* bounds;  // [B]: bits of a float; starts as 0

  REUSE_BOTH int64_t columns() const { return static_cast<int64_t>(panels.tiles) * panels.num_blocks * panels.width(); }
  REUSE_BOTH int64_t blocks() const { return divide_up<int64_t>(columns(), kThreads); }
  REUSE_BOTH void run(const Group<kThreads>& group, Shared&) const {
    group.phase([&](int thread) {
      const int64_t column = group.block * kThreads + thread;
      if (column >= columns()) return;
      const int64_t panel = column / panels.width();
      const Packed* first = packed + panel * panels.panel_size() + column % panels.width();
      float sum = 0.0f;
      for (int32_t l = 0; l < panels.length; ++l) {
        sum += magnitude(to_float(first[static_cast<int64_t>(l) * panels.width()]));
      }
      if (is_finite(sum)) atomic_max(bounds + panel % panels.num_blocks, bits_of(sum));
    });
  }
};

// The power of two that a block's float16 entries are multiplied with on the way into the table, so that none
// overflows.
struct EntryScale {
  const uint32_t* largest;  // [B]: bits of the largest magnitude of the input; null: entries are as they are
  const uint32_t* columns;  // [B]: see ColumnBoundKernel
  int32_t headroom;         // bits by which a centroid's element may exceed the input's

  REUSE_BOTH int exponent(int32_t block) const {
    if (largest == nullptr) return 0;
    const int above = exponent_above(float_of(largest[block])) + exponent_above(float_of(columns[block])) + headroom;
    return larger(-120, smaller(120, 15 - above));
  }
};

}  // namespace reuse::cuda
