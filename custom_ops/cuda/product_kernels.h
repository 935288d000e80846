// Products of centroids and weights: the tables. Tiles of the output beyond a block's clusters are skipped, so that
// grids need not know how many there are.
#pragma once

#include "entries.h"
#include "panel_kernels.h"
#include "product_tiles.h"

namespace reuse::cuda {

// Multiplies the centroids of every block with its panels of some tiles of output channels. A fixed number of thread
// blocks shares out the pieces of 128 rows and 64 columns. While one slice of the depth is multiplied, the next one is
// copied into the other buffer, so that one phase, with one barrier, is all that a slice takes.
template <typename Product, typename Operand, typename Entry>
struct ProductKernel {
  static constexpr int kThreads = kProductThreads;
  static constexpr int kResident = 4;  // with 128 registers for each thread, of which sums take half
  using Tiles = typename Product::Tiles;
  union Shared {
    Tiles slices[2];
    alignas(16) float out[kProductRows][kSumsStride];
  };

  int32_t tiles, num_blocks, rows, length, width;
  const int32_t* counts;     // [B]
  const Operand* centroids;  // [B, rows, L]
  const Operand* panels;     // [tiles, B, L, width]
  EntryScale scale;
  Entry* table;  // [tiles, B, rows, width]

  REUSE_BOTH int64_t pieces() const {
    return static_cast<int64_t>(tiles) * num_blocks * divide_up(rows, kProductRows) * divide_up(width, kProductColumns);
  }

  REUSE_BOTH void run(const Group<kThreads>& group, Shared& shared) const {
    const int32_t across = divide_up(width, kProductColumns), down = divide_up(rows, kProductRows);
    const int32_t step = static_cast<int32_t>(group.blocks), all = static_cast<int32_t>(pieces());
    for (int32_t piece = static_cast<int32_t>(group.block); piece < all; piece += step) {
      const int32_t panel = piece / across / down, row = piece / across % down * kProductRows;
      const int32_t count = smaller(kProductRows, smaller(counts[panel % num_blocks], rows) - row);
      if (count > 0) multiply(group, shared, panel, row, piece % across * kProductColumns, count);
    }
  }

 private:
  // Elements of an operand that 16 bytes hold: what a thread copies at a time.
  static constexpr int kAtOnce = kEntriesAtOnce<Operand>;
  static constexpr int kDepth = Tiles::kDepth;
  static constexpr int kCopiesA = kProductRows * kDepth / kAtOnce / kThreads;
  static constexpr int kCopiesB = kProductColumns * kDepth / kAtOnce / kThreads;

  // Where a thread's first 16 bytes of a tile lie, which is `width` elements wide; its next ones are so many rows
  // below.
  struct Place {
    int32_t row, column;
  };
  template <int kWidth>
  static constexpr int kRowsBetween = kThreads * kAtOnce / kWidth;
  template <int kWidth>
  REUSE_BOTH static Place first_place(int thread) {
    const unsigned own = static_cast<unsigned>(thread), across = kWidth / kAtOnce;
    return {static_cast<int32_t>(own / across), static_cast<int32_t>(own % across) * kAtOnce};
  }

  // What a piece multiplies.
  struct Operands {
    const Operand *a, *b;
    int32_t count, columns;  // rows of a, columns of b
    bool whole_rows[2];      // of a and b: of aligned 16 bytes
  };

  REUSE_BOTH void multiply(const Group<kThreads>& group, Shared& shared, int32_t panel, int32_t row, int32_t column,
                           int32_t count) const {
    const int32_t block = panel % num_blocks;
    const Operands own{centroids + (static_cast<int64_t>(block) * rows + row) * length,
                       panels + static_cast<int64_t>(panel) * length * width + column,
                       count,
                       smaller(kProductColumns, width - column),
                       {has_whole_rows(centroids, length), has_whole_rows(panels, width)}};
    PerThread<typename Product::Sums, kThreads> sums;
    group.phase([&](int thread) {
      AsyncCopies copies(group.backwards);
      start(own, 0, thread, shared.slices[0], copies);
      sums[thread] = {};
      copies.wait();
    });
    for (int32_t first = 0; first < length; first += kDepth) {
      const int32_t after = first + kDepth;
      const Tiles& current = shared.slices[first / kDepth % 2];
      Tiles& next = shared.slices[after / kDepth % 2];
      group.phase([&](int thread) {
        AsyncCopies copies(group.backwards);
        if (after < length) start(own, after, thread, next, copies);
        Product::multiply(current, thread, sums[thread]);
        copies.wait();
      });
    }
    group.phase([&](int thread) { Product::put_out(sums[thread], thread, shared.out); });
    Entry* out = table + (static_cast<int64_t>(panel) * rows + row) * width + column;
    group.phase([&](int thread) { write(own, block, thread, shared, out); });
  }

  // Starts the copies of a thread's part of the slice that begins at element `first`.
  REUSE_BOTH void start(const Operands& own, int32_t first, int thread, Tiles& to, AsyncCopies& copies) const {
    const Place a = first_place<kDepth>(thread), b = first_place<kProductColumns>(thread);
    copy<kCopiesA, kRowsBetween<kDepth>>(own.a + static_cast<int64_t>(a.row) * length + first + a.column, length,
                                         own.count - a.row, length - first - a.column, own.whole_rows[0], to.a, a,
                                         copies);
    copy<kCopiesB, kRowsBetween<kProductColumns>>(own.b + static_cast<int64_t>(first + b.row) * width + b.column, width,
                                                  length - first - b.row, own.columns - b.column, own.whole_rows[1],
                                                  to.b, b, copies);
  }

  // Copies 16 bytes of every kRows-th row, `stride` elements apart. Of rows that do not exist, and elements beyond
  // `columns`, zeros are put into the tile.
  template <int kCopies, int kRows, int kStride, int kHeight>
  REUSE_BOTH static void copy(const Operand* from, int32_t stride, int32_t rows, int32_t columns, bool whole_rows,
                              Operand (&to)[kHeight][kStride], const Place& at, AsyncCopies& copies) {
    if (whole_rows) {
      REUSE_UNROLL
      for (int i = 0; i < kCopies; ++i) {
        Operand* target = &to[at.row + i * kRows][at.column];
        if (i * kRows < rows && columns > 0) {
          copies.start<16>(target, from + static_cast<int64_t>(i) * kRows * stride);
        } else {
          store_16(target, Words{});
        }
      }
      return;
    }
    REUSE_NO_UNROLL
    for (int i = 0; i < kCopies; ++i) {
      REUSE_NO_UNROLL
      for (int j = 0; j < kAtOnce; ++j) {
        Operand* target = &to[at.row + i * kRows][at.column + j];
        const Operand* source = from + static_cast<int64_t>(i) * kRows * stride + j;
        if (i * kRows >= rows || j >= columns) {
          *target = Operand{};
        } else if constexpr (sizeof(Operand) == 4) {
          copies.start<4>(target, source);
        } else {
          *target = *source;
        }
      }
    }
  }

  REUSE_BOTH void write(const Operands& own, int32_t block, int thread, const Shared& shared, Entry* out) const {
    constexpr int32_t kStores = kProductColumns / kEntriesAtOnce<Entry>;  // of a row
    const float factor = static_cast<float>(power_of_two(scale.exponent(block)));
    const bool aligned = has_whole_rows(table, width);
    for (int32_t i = thread; i < own.count * kStores; i += kThreads) {
      const int32_t row = i / kStores, column = i % kStores * kEntriesAtOnce<Entry>;
      write_entries(out + static_cast<int64_t>(row) * width + column, own.columns - column, aligned,
                    &shared.out[row][column], factor);
    }
  }
};

}  // namespace reuse::cuda
