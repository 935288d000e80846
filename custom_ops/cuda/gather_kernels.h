// Gathering: each output pixel is the sum of its neuron vectors' table rows (docs/operators.md, Gather).
#pragma once

#include "entries.h"
#include "panel_kernels.h"
#include "reuse/activation.h"
#include "vectors.h"

namespace reuse::cuda {

struct ActivationOperands {
  Activation kind;
  float first, second;  // min and max of Clip; alpha of LeakyRelu

  REUSE_BOTH float operator()(float value) const {
    switch (kind) {
      case Activation::kNone:
        return value;
      case Activation::kRelu:
        return value < 0.0f ? 0.0f : value;
      case Activation::kClip:
        return value < first ? first : value > second ? second : value;
      case Activation::kLeakyRelu:
        return value < 0.0f ? value * first : value;
    }
    return value;
  }
};

// Output channels of a tile: the table of a layer's tile should stay in the L2 cache, and its rows fill cache lines.
constexpr int32_t kMostTileChannels = 64;

// Tables of tiles of output channels of every group.
template <typename Entry>
struct TableView {
  const Entry* entries;  // [B, rows, row_stride], of which a tap's channels begin at multiples of tap_stride
  int32_t rows, row_stride, tap_stride;
  int64_t tile_stride;  // from one tile's entries to the next's
  bool aligned;         // whether rows, and the channels of a tap and tile, are whole and aligned 16 bytes

  // Where rows begin is counted in 32 bits: in entries, or 16 bytes where they are whole ones.
  REUSE_BOTH int32_t unit() const { return aligned ? kEntriesAtOnce<Entry> : 1; }
  REUSE_BOTH bool can_be_counted() const {
    return static_cast<int64_t>(rows) * (row_stride / unit()) <= int64_t{0xFFFFFFF0};
  }
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

// A block of threads has 64 output pixels and a tile of a group's output channels. An output is a sum of terms: the
// rows of its vector of each block at each tap. They are taken in parts: while the rows of one part are added, by
// threads side by side in a row, in registers, the row numbers of the next part are read, once for all channels. Shared
// memory then turns the sums into the order of Y.
//
// Rows come from the L2 cache, taken to answer after 400 ns when it is busy and to give an H100 5.5e12 bytes/s, or 42
// bytes per ns and multiprocessor. By Little's law 17 KB must be on their way at every moment. A thread waits for
// kLoads * 16 = 64 bytes at a time, so four blocks of 256 threads (half of the multiprocessor's threads, with 64
// registers each) have up to 64 KB: enough even if they wait for rows only a third of the time. More blocks would
// leave registers for two loads, less room in L1 for rows that neighbours share, and bring nothing.
template <typename T, typename Packed, typename Entry>
struct GatherKernel {
  static constexpr int kThreads = 256;
  static constexpr int kResident = 4;
  static constexpr int32_t kPixels = 64;
  static constexpr int32_t kAtOnce = kEntriesAtOnce<Entry>;
  // Items of a thread, if the tile is full: a pixel and as many channels as one load brings.
  static constexpr int kItems = kPixels * kMostTileChannels / kAtOnce / kThreads;
  static constexpr int kLoads = 4;                                  // of a thread, side by side
  static constexpr int kTerms = kLoads / kItems;                    // whose rows are loaded side by side
  static constexpr int kPart = 12;                                  // terms of a part
  static constexpr int kOwnTerms = kPart * kPixels / kThreads;      // whose rows a thread finds, for one pixel
  static constexpr int kProducts = smaller(kAtOnce, 64 / kAtOnce);  // dense ones side by side, as registers allow
  // A summand of all pixels.
  struct Term {
    int32_t block, tap;   // block -1: there is no such term
    int32_t row, column;  // where the tap reads, from a window's corner on
    float factor;         // of its entries
    int64_t offset;       // of its first row in the table, in bytes
  };
  // Where the rows of a thread's items begin; or kNoTap, kNoRow.
  struct alignas(4 * kItems) ItemRows {
    uint32_t values[kItems];
  };
  struct Shared {
    OutputPixel pixels[kPixels];
    Term terms[3][kPart];                           // of three parts, one after the other
    ItemRows rows[2][kPart][kPixels / kItems + 1];  // of two parts; the last are those of threads without items
    float out[kMostTileChannels][kPixels + 1];
  };
  struct Sums {
    EntrySum<Entry> values[kItems][kAtOnce];
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
  const float* channel_scales;  // [M], which sums of int8 entries are multiplied with; else null

  REUSE_BOTH int64_t blocks() const {
    return static_cast<int64_t>(divide_up(shape.rows, kPixels)) * shape.group * tiles.count;
  }

  REUSE_BOTH void run(const Group<kThreads>& group, Shared& shared) const {
    const int32_t pixel_tiles = divide_up(shape.rows, kPixels);
    const int32_t first = static_cast<int32_t>(group.block % pixel_tiles) * kPixels;
    const int32_t own_group = static_cast<int32_t>(group.block / pixel_tiles % shape.group);
    const int32_t index = static_cast<int32_t>(group.block / pixel_tiles / shape.group);
    const int32_t start = (tiles.first + index) * tiles.channels;
    const Tile tile{own_group, index, start, smaller(tiles.channels, shape.group_out_channels - start), first};
    PerThread<Sums, kThreads> sums;
    group.phase([&](int thread) {
      if (thread < tile.pixels(shape)) shared.pixels[thread] = OutputPixel::of(shape, first + thread);
      sums[thread] = {};
      clear(tile, thread, shared);
      describe(tile, 0, thread, shared);
      describe(tile, 1, thread, shared);
    });
    group.phase([&](int thread) {
      AsyncCopies copies(group.backwards);
      const uint32_t found = find(tile, 0, thread, shared, copies);
      put(0, thread, found, shared, copies);
    });
    const int32_t parts = divide_up(terms(), kPart);
    for (int32_t part = 0; part < parts; ++part) {
      group.phase([&](int thread) {
        describe(tile, part + 2, thread, shared);
        AsyncCopies copies(group.backwards);
        const uint32_t found = find(tile, part + 1, thread, shared, copies);
        const bool lacks_rows = table.aligned ? add<true>(tile, part, thread, shared, sums[thread])
                                              : add<false>(tile, part, thread, shared, sums[thread]);
        if (lacks_rows) add_without_rows(tile, part, thread, shared);
        put(part + 1, thread, found, shared, copies);
      });
    }
    group.phase([&](int thread) { put_out(tile, thread, sums[thread], shared); });
    group.phase([&](int thread) { write(tile, thread, shared); });
  }

 private:
  // In place of where a row begins:
  static constexpr uint32_t kNoTap = 0xFFFFFFFFu;  // the tap reads the padding, or there is no such term or pixel
  static constexpr uint32_t kNoRow = 0xFFFFFFFEu;  // the vector has no row, or an id that the table does not have

  // Output pixels from `first` on, and a group's output channels from `start` on; `index` counts from the launch's
  // first tile.
  struct Tile {
    int32_t group, index, start, channels, first;

    REUSE_BOTH int32_t pixels(const Shape& shape) const { return smaller(kPixels, shape.rows - first); }
  };

  REUSE_BOTH int32_t terms() const { return shape.blocks_per_group * shape.taps; }

  // The pixel, and the terms of a part, whose rows a thread finds.
  REUSE_BOTH static int32_t pixel_of(int thread) { return thread % kPixels; }
  REUSE_BOTH static int32_t term_of(int thread, int i) { return thread / kPixels + i * (kThreads / kPixels); }

  REUSE_BOTH static uint32_t* row_of(Shared& shared, int32_t part, int32_t term, int32_t pixel) {
    const unsigned at = static_cast<unsigned>(pixel);
    return &shared.rows[part % 2][term][at / kItems].values[at % kItems];
  }

  // Says what the terms of a part are: a thread for each, as it takes divisions.
  REUSE_BOTH void describe(const Tile& tile, int32_t part, int thread, Shared& shared) const {
    if (thread >= kPart) return;
    const int32_t index = part * kPart + thread;
    Term term{-1, 0, 0, 0, 0.0f, 0};
    if (index < terms()) {
      const int32_t tap = index % shape.taps, block = tile.group * shape.blocks_per_group + index / shape.taps;
      term = {block,
              tap,
              tap / shape.kernel_w * shape.dilation_h,
              tap % shape.kernel_w * shape.dilation_w,
              static_cast<float>(power_of_two(-scale.exponent(block))),
              (tile.index * table.tile_stride + static_cast<int64_t>(block) * table.rows * table.row_stride +
               static_cast<int64_t>(tap) * table.tap_stride) *
                  static_cast<int64_t>(sizeof(Entry))};
    }
    shared.terms[part % 3][thread] = term;
  }

  // The neuron vector that a term of an output pixel reads, or -1 in the padding.
  REUSE_BOTH int32_t vector_at(const OutputPixel& at, int32_t index, const Term& term) const {
    if (shape.patch) return index;
    const int32_t row = at.row + term.row, column = at.column + term.column;
    if (row < 0 || row >= shape.in_h || column < 0 || column >= shape.in_w) return -1;
    return (at.image * shape.in_h + row) * shape.in_w + column;
  }

  // Starts to read the ids of a thread's vectors of a part. Returns a bit for each term whose tap reads a vector.
  REUSE_BOTH uint32_t find(const Tile& tile, int32_t part, int thread, Shared& shared, AsyncCopies& copies) const {
    const OutputPixel at = shared.pixels[pixel_of(thread)];
    uint32_t found = 0;
    REUSE_NO_UNROLL
    for (int i = 0; i < kOwnTerms; ++i) {
      const int32_t own = term_of(thread, i);
      const Term& term = shared.terms[part % 3][own];
      const bool there = term.block >= 0 && pixel_of(thread) < tile.pixels(shape);
      const int32_t vector = there ? vector_at(at, tile.first + pixel_of(thread), term) : -1;
      uint32_t* row = row_of(shared, part, own, pixel_of(thread));
      if (vector < 0) {
        *row = kNoTap;
      } else {
        copies.start<4>(row, ids + static_cast<int64_t>(term.block) * shape.vectors + vector);
        found |= 1u << i;
      }
    }
    return found;
  }

  // Turns the ids that find() reads into where rows begin.
  REUSE_BOTH void put(int32_t part, int thread, uint32_t found, Shared& shared, AsyncCopies& copies) const {
    const uint32_t stride = static_cast<uint32_t>(table.row_stride / table.unit());
    copies.wait();
    REUSE_UNROLL
    for (int i = 0; i < kOwnTerms; ++i) {
      if ((found >> i & 1u) == 0) continue;
      uint32_t& row = *row_of(shared, part, term_of(thread, i), pixel_of(thread));
      row = row < static_cast<uint32_t>(table.rows) ? row * stride : kNoRow;  // ids below 0 are large ones here
    }
  }

  REUSE_BOTH static ItemRows no_rows() {
    ItemRows rows;
    REUSE_UNROLL
    for (int i = 0; i < kItems; ++i) rows.values[i] = kNoTap;
    return rows;
  }

  // The place of a thread's items within the tile: channels, and pixels side by side from kPixels on if it has none.
  struct Items {
    int32_t pixel, channel;
  };
  REUSE_BOTH static Items items_of(const Tile& tile, int thread) {
    const int32_t lanes = divide_up(tile.channels, kAtOnce);
    return {smaller(thread / lanes * kItems, kPixels), thread % lanes * kAtOnce};
  }

  // Clears the sums of what has no rows, and the rows of threads without items.
  REUSE_BOTH static void clear(const Tile& tile, int thread, Shared& shared) {
    if (thread < 2 * kPart) shared.rows[thread / kPart][thread % kPart][kPixels / kItems] = no_rows();
    const Items own = items_of(tile, thread);
    if (own.pixel == kPixels) return;
    REUSE_UNROLL
    for (int i = 0; i < kItems * kAtOnce; ++i) {
      shared.out[own.channel + i % kAtOnce][own.pixel + i / kAtOnce] = 0.0f;
    }
  }

  // Adds a part's rows to a thread's items: first some rows are loaded, then they are added, so that loads wait side by
  // side. Returns whether there are vectors without a row.
  template <bool kAligned>
  REUSE_BOTH bool add(const Tile& tile, int32_t part, int thread, const Shared& shared, Sums& sums) const {
    constexpr uint64_t kUnitBytes = kAligned ? 16 : sizeof(Entry);
    const int32_t count = smaller<int32_t>(kPart, terms() - part * kPart);
    const Items items = items_of(tile, thread);
    const int32_t wanted = kAligned ? kAtOnce : tile.channels - items.channel;
    const char* entries = reinterpret_cast<const char*>(table.entries + items.channel);
    bool lacks_rows = false;
    REUSE_NO_UNROLL
    for (int32_t t = 0; t < count; t += kTerms) {
      ItemRows rows[kTerms];
      EntryWords<Entry> loaded[kLoads];
      REUSE_UNROLL
      for (int i = 0; i < kTerms; ++i) rows[i] = shared.rows[part % 2][t + i][items.pixel / kItems];
      REUSE_UNROLL
      for (int i = 0; i < kLoads; ++i) {
        const uint32_t row = rows[i / kItems].values[i % kItems];
        const char* from = entries + shared.terms[part % 3][t + i / kItems].offset + row * kUnitBytes;
        loaded[i] = {};
        if (row < kNoRow) loaded[i] = load_entries(reinterpret_cast<const Entry*>(from), wanted, kAligned);
        lacks_rows = lacks_rows || row == kNoRow;
      }
      REUSE_UNROLL
      for (int i = 0; i < kLoads; ++i) {
        const float factor = shared.terms[part % 3][t + i / kItems].factor;
        REUSE_UNROLL
        for (int j = 0; j < kAtOnce; ++j) loaded[i].add_to(sums.values[i % kItems][j], j, factor);
      }
    }
    return lacks_rows;
  }

  // Adds what a part's vectors without a row contribute to a thread's items. This is rare, and would take registers
  // from the loop above if it stood there.
  REUSE_BOTH void add_without_rows(const Tile& tile, int32_t part, int thread, Shared& shared) const {
    const Items items = items_of(tile, thread);
    REUSE_NO_UNROLL
    for (int32_t i = 0; i < kItems * kPart; ++i) {
      const int32_t pixel = items.pixel + i % kItems;
      if (shared.rows[part % 2][i / kItems][items.pixel / kItems].values[i % kItems] != kNoRow) continue;
      const Term& term = shared.terms[part % 3][i / kItems];
      REUSE_NO_UNROLL
      for (int32_t channel = items.channel; channel < items.channel + kAtOnce; channel += kProducts) {
        float products[kProducts] = {};
        if (dense.panels == nullptr) {
          // An id outside the table, which only a wrong model can have, is answered with NaN.
          REUSE_UNROLL
          for (int j = 0; j < kProducts; ++j) products[j] = float_of(0x7FC00000u);
        } else {
          const int32_t vector = vector_at(shared.pixels[pixel], tile.first + pixel, term);
          multiply(tile, term, vector, channel, products);
        }
        REUSE_UNROLL
        for (int j = 0; j < kProducts; ++j) shared.out[channel + j][pixel] += products[j];
      }
    }
  }

  // The dense product of a vector.
  REUSE_BOTH void multiply(const Tile& tile, const Term& term, int32_t vector, int32_t channel,
                           float (&products)[kProducts]) const {
    const NeuronVector<T> values(shape, dense.x, term.block, vector);
    const int32_t width = dense.sizes.width();
    const Packed* weights =
        dense.panels + dense.sizes.offset(tile.index, term.block) + term.tap * dense.sizes.tile + channel;
    for (int32_t l = 0; l < values.length(); ++l) {
      const float value = values[l];
      REUSE_UNROLL
      for (int j = 0; j < kProducts; ++j) products[j] += value * to_float(weights[static_cast<int64_t>(l) * width + j]);
    }
  }

  REUSE_BOTH void put_out(const Tile& tile, int thread, const Sums& sums, Shared& shared) const {
    const Items own = items_of(tile, thread);
    if (own.pixel == kPixels) return;
    REUSE_UNROLL
    for (int i = 0; i < kItems * kAtOnce; ++i) {
      const int32_t channel = own.channel + i % kAtOnce;
      const auto whole = sums.values[i / kAtOnce][i % kAtOnce];
      float sum = static_cast<float>(whole);
      if (channel_scales != nullptr && channel < tile.channels) {
        sum *= channel_scales[tile.group * shape.group_out_channels + tile.start + channel];
      }
      // Vectors without a row may have made an output infinite, which it shall stay whatever the rows are.
      float& out = shared.out[channel][own.pixel + i / kAtOnce];
      if (is_finite(out)) out += sum;
    }
  }

  // Writes Y: threads side by side have pixels side by side, or channels where Y is pixel-major.
  REUSE_BOTH void write(const Tile& tile, int thread, const Shared& shared) const {
    static_assert(kPixels == kMostTileChannels, "Both orders share out a square.");
    const int32_t own = thread % kPixels, first = tile.group * shape.group_out_channels + tile.start;
    const bool turned = shape.output_pixel_major;
    const int32_t pixels = tile.pixels(shape), others = turned ? pixels : tile.channels;
    if (own >= (turned ? tile.channels : pixels)) return;
    const int32_t index = tile.first + own;
    T* const from =
        turned
            ? y + static_cast<int64_t>(tile.first) * shape.out_channels + first + own
            : y + (static_cast<int64_t>(index / shape.out_pixels()) * shape.out_channels + first) * shape.out_pixels() +
                  index % shape.out_pixels();
    const int64_t stride = turned ? shape.out_channels : shape.out_pixels();
    for (int32_t other = thread / kPixels; other < others; other += kThreads / kPixels) {
      const int32_t channel = turned ? own : other, pixel = turned ? other : own;
      const float sum = shared.out[channel][pixel] + (bias == nullptr ? 0.0f : to_float(bias[first + channel]));
      from[other * stride] = from_float<T>(activation(sum));
    }
  }
};

}  // namespace reuse::cuda
