// Gathering: each output pixel is the sum of its neuron vectors' table rows (docs/operators.md, Gather).
#pragma once

#include "product_kernels.h"
#include "vectors.h"

namespace reuse::cuda {

enum class ActivationKind : int32_t { kNone, kRelu, kClip, kLeakyRelu };

struct ActivationOperands {
  ActivationKind kind;
  float first, second;  // min and max of Clip; alpha of LeakyRelu

  REUSE_BOTH float operator()(float value) const {
    switch (kind) {
      case ActivationKind::kNone:
        return value;
      case ActivationKind::kRelu:
        return value < 0.0f ? 0.0f : value;
      case ActivationKind::kClip:
        return value < first ? first : value > second ? second : value;
      case ActivationKind::kLeakyRelu:
        return value < 0.0f ? value * first : value;
    }
    return value;
  }
};

// Output channels of a tile: the table of a layer's tile should stay in the L2 cache, and its rows fill cache lines.
constexpr int32_t kMostTileChannels = 64;

// Entries of a table that one load of 16 bytes brings.
template <typename Entry>
constexpr int32_t kEntriesAtOnce = static_cast<int32_t>(16 / sizeof(Entry));

// Reads `count` entries, 16 bytes at once where they are all there and aligned; others are zero.
template <typename Entry>
REUSE_BOTH void read_entries(const Entry* from, int32_t count, bool aligned, float (&to)[kEntriesAtOnce<Entry>]) {
  constexpr int32_t kCount = kEntriesAtOnce<Entry>;
#ifdef __CUDA_ARCH__
  if (aligned && count >= kCount) {
    const uint4 loaded = *reinterpret_cast<const uint4*>(from);
    const uint32_t words[4] = {loaded.x, loaded.y, loaded.z, loaded.w};
    REUSE_UNROLL
    for (int i = 0; i < kCount; ++i) {
      if constexpr (sizeof(Entry) == 4) {
        to[i] = float_of(words[i]);
      } else {
        to[i] = to_float(Half{static_cast<uint16_t>(words[i / 2] >> (i % 2 * 16))});
      }
    }
    return;
  }
#else
  (void)aligned;
#endif
  REUSE_UNROLL
  for (int i = 0; i < kCount; ++i) to[i] = i < count ? to_float(from[i]) : 0.0f;
}

// Tables of tiles of output channels of every group.
template <typename Entry>
struct TableView {
  const Entry* entries;  // [B, rows, row_stride], of which a tap's channels begin at multiples of tap_stride
  int32_t rows, row_stride, tap_stride;
  int64_t tile_stride;  // from one tile's entries to the next's
  bool aligned;         // whether every multiple of 16 bytes in a row is one in memory
};

// Some of the tiles that a group's output channels are cut into; the last of all may be narrower.
struct ChannelTiles {
  int32_t first, count, channels;
};

// What vectors without a row need: their own products. Null members: there are none.
template <typename T, typename Packed>
struct DenseView {
  const T* x;
  const Packed* panels;  // [tiles, B, L, taps, tile]
  Panels sizes;
};

// A block of threads has 64 or 128 output pixels and a tile of a group's output channels: threads side by side read a
// row of the table, sums stay in registers over all blocks and taps, and shared memory turns them into the order of Y.
template <typename T, typename Packed, typename Entry>
struct GatherKernel {
  static constexpr int kThreads = 256;
  static constexpr int kResident = 2;
  static constexpr int32_t kAtOnce = kEntriesAtOnce<Entry>;
  static constexpr int kItems = 4;  // of a thread: a pixel and as many channels as one load brings
  static constexpr int32_t kPixels = kItems * kThreads * kAtOnce / kMostTileChannels;
  struct Shared {
    float out[kMostTileChannels][kPixels + 1];
  };
  struct Sums {
    float values[kItems][kAtOnce];
  };

  Shape shape;
  TableView<Entry> table;
  EntryScale scale;
  DenseView<T, Packed> dense;
  const int32_t* ids;  // [B, V]; below 0: the vector has no row
  const T* bias;       // [M] or null
  ActivationOperands activation;
  ChannelTiles tiles;
  T* y;

  REUSE_BOTH int64_t blocks() const {
    return static_cast<int64_t>(divide_up(shape.rows, kPixels)) * shape.group * tiles.count;
  }

  REUSE_BOTH void run(const Group<kThreads>& group, Shared& shared) const {
    const int32_t pixel_tiles = divide_up(shape.rows, kPixels);
    const int32_t first = static_cast<int32_t>(group.block % pixel_tiles) * kPixels;
    const int32_t own_group = static_cast<int32_t>(group.block / pixel_tiles % shape.group);
    const int32_t index = static_cast<int32_t>(group.block / pixel_tiles / shape.group);
    const int32_t start = (tiles.first + index) * tiles.channels;
    const Tile tile{own_group, index, start, smaller(tiles.channels, shape.group_out_channels - start)};
    group.phase([&](int thread) { gather(tile, first, thread, shared); });
    group.phase([&](int thread) { write(tile, first, thread, shared); });
  }

 private:
  // A group's output channels from `start` on; `index` counts from the launch's first tile.
  struct Tile {
    int32_t group, index, start, channels;
  };

  REUSE_BOTH void gather(const Tile& tile, int32_t first, int thread, Shared& shared) const {
    const int32_t lanes = divide_up(tile.channels, kAtOnce);
    const int32_t tap_rows = shape.patch ? 1 : shape.kernel_h, tap_columns = shape.patch ? 1 : shape.kernel_w;
    Sums sums;
    int32_t channel[kItems], pixel[kItems];
    OutputPixel at[kItems];
    REUSE_UNROLL
    for (int i = 0; i < kItems; ++i) {
      const int32_t item = i * kThreads + thread;
      pixel[i] = item / lanes;
      channel[i] = item % lanes * kAtOnce;
      if (pixel[i] >= smaller(kPixels, shape.rows - first)) pixel[i] = -1;
      if (pixel[i] >= 0) at[i] = OutputPixel::of(shape, first + pixel[i]);
      REUSE_UNROLL
      for (int j = 0; j < kAtOnce; ++j) sums.values[i][j] = 0.0f;
    }
    for (int32_t b = 0; b < shape.blocks_per_group; ++b) {
      const int32_t block = tile.group * shape.blocks_per_group + b;
      const float factor = static_cast<float>(power_of_two(-scale.exponent(block)));
      for (int32_t tap_row = 0; tap_row < tap_rows; ++tap_row) {
        for (int32_t tap_column = 0; tap_column < tap_columns; ++tap_column) {
          const Tap tap{tap_row * tap_columns + tap_column, tap_row * shape.dilation_h, tap_column * shape.dilation_w};
          add_tap(tile, block, tap, first, pixel, channel, at, factor, sums);
        }
      }
    }
    REUSE_UNROLL
    for (int i = 0; i < kItems; ++i) {
      if (pixel[i] < 0) continue;
      REUSE_UNROLL
      for (int j = 0; j < kAtOnce; ++j) shared.out[channel[i] + j][pixel[i]] = sums.values[i][j];
    }
  }

  // A tap: its number, and where it reads from a window's corner on.
  struct Tap {
    int32_t index, row, column;
  };

  // The neuron vector that a tap of an output pixel reads, or -1 in the padding.
  REUSE_BOTH int32_t vector_at(const OutputPixel& at, int32_t index, const Tap& tap) const {
    if (shape.patch) return index;
    const int32_t row = at.row + tap.row, column = at.column + tap.column;
    if (row < 0 || row >= shape.in_h || column < 0 || column >= shape.in_w) return -1;
    return (at.image * shape.in_h + row) * shape.in_w + column;
  }

  // Adds one tap of all items: first all ids are read, then all rows, so that loads wait side by side.
  REUSE_BOTH void add_tap(const Tile& tile, int32_t block, const Tap& tap, int32_t first,
                          const int32_t (&pixel)[kItems], const int32_t (&channel)[kItems],
                          const OutputPixel (&at)[kItems], float factor, Sums& sums) const {
    const int32_t* of_block = ids + static_cast<int64_t>(block) * shape.vectors;
    int32_t vector[kItems], id[kItems];
    REUSE_UNROLL
    for (int i = 0; i < kItems; ++i) {
      vector[i] = pixel[i] < 0 ? -1 : vector_at(at[i], first + pixel[i], tap);
      id[i] = vector[i] < 0 ? 0 : of_block[vector[i]];
    }
    const Entry* entries = table.entries + tile.index * table.tile_stride +
                           static_cast<int64_t>(block) * table.rows * table.row_stride +
                           static_cast<int64_t>(tap.index) * table.tap_stride;
    REUSE_UNROLL
    for (int i = 0; i < kItems; ++i) {
      const bool used = vector[i] >= 0 && id[i] >= 0 && id[i] < table.rows;
      float own[kAtOnce];
      read_entries(entries + (used ? static_cast<int64_t>(id[i]) * table.row_stride + channel[i] : 0),
                   used ? tile.channels - channel[i] : 0, table.aligned, own);
      REUSE_UNROLL
      for (int j = 0; j < kAtOnce; ++j) sums.values[i][j] += own[j] * factor;
      if (!used && vector[i] >= 0) add_without_row(tile, block, tap.index, vector[i], channel[i], sums.values[i]);
    }
  }

  // An id outside the table, which only a wrong model can have, is answered with NaN.
  REUSE_BOTH void add_without_row(const Tile& tile, int32_t block, int32_t tap, int32_t vector, int32_t channel,
                                  float (&sums)[kAtOnce]) const {
    if (dense.panels != nullptr) {
      add_product_of(tile, block, tap, vector, channel, sums);
      return;
    }
    for (float& sum : sums) sum = float_of(0x7FC00000u);
  }

  // The dense product of a vector that has no row.
  REUSE_BOTH void add_product_of(const Tile& tile, int32_t block, int32_t tap, int32_t vector, int32_t channel,
                                 float (&sums)[kAtOnce]) const {
    const NeuronVector<T> values(shape, dense.x, block, vector);
    const int32_t width = dense.sizes.width();
    const Packed* weights = dense.panels + dense.sizes.offset(tile.index, block) + tap * dense.sizes.tile + channel;
    float products[kAtOnce] = {};
    for (int32_t l = 0; l < values.length(); ++l) {
      const float value = values[l];
      REUSE_UNROLL
      for (int j = 0; j < kAtOnce; ++j) products[j] += value * to_float(weights[static_cast<int64_t>(l) * width + j]);
    }
    REUSE_UNROLL
    for (int j = 0; j < kAtOnce; ++j) sums[j] += products[j];
  }

  REUSE_BOTH void write(const Tile& tile, int32_t first, int thread, const Shared& shared) const {
    const int32_t count = smaller(kPixels, shape.rows - first);
    const int32_t start = tile.group * shape.group_out_channels + tile.start;
    for (int32_t i = thread; i < tile.channels * kPixels; i += kThreads) {
      const int32_t channel = shape.output_pixel_major ? i % tile.channels : i / kPixels;
      const int32_t pixel = shape.output_pixel_major ? i / tile.channels : i % kPixels;
      if (pixel >= count) continue;
      const float sum = shared.out[channel][pixel] + (bias == nullptr ? 0.0f : to_float(bias[start + channel]));
      const int32_t index = first + pixel;
      const int64_t image = index / shape.out_pixels();
      const int64_t target =
          shape.output_pixel_major
              ? static_cast<int64_t>(index) * shape.out_channels + start + channel
              : (image * shape.out_channels + start + channel) * shape.out_pixels() + index % shape.out_pixels();
      y[target] = from_float<T>(activation(sum));
    }
  }
};

}  // namespace reuse::cuda
