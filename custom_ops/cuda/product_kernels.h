// Products of centroids and weights: the tables. Tiles of the output beyond a block's clusters are skipped, so that
// grids need not know how many there are.
#pragma once

#ifdef __CUDACC__
#include <mma.h>
#endif

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

// Float32 products and sums on CUDA cores.
struct StrictProduct {
  static constexpr int kDepth = 16;
  using Operand = float;
  struct Tiles {
    alignas(16) float a[kDepth][132];
    alignas(16) float b[kDepth][64];
  };
  // A thread's 8 rows of 4 columns.
  struct Sums {
    float values[8][4];
  };

  REUSE_BOTH static void clear(Sums& sums) {
    REUSE_UNROLL
    for (int i = 0; i < 32; ++i) sums.values[i / 4][i % 4] = 0.0f;
  }
  REUSE_BOTH static void put_a(Tiles& tiles, int row, int k, float value) { tiles.a[k][row] = value; }
  REUSE_BOTH static void put_b(Tiles& tiles, int k, int column, float value) { tiles.b[k][column] = value; }
  REUSE_BOTH static void multiply(const Tiles& tiles, int thread, Sums& sums) {
    const int row = thread / 16 * 8, column = thread % 16 * 4;
    REUSE_UNROLL
    for (int k = 0; k < kDepth; ++k) {
      float a[8], b[4];
      REUSE_UNROLL
      for (int i = 0; i < 8; ++i) a[i] = tiles.a[k][row + i];
      REUSE_UNROLL
      for (int j = 0; j < 4; ++j) b[j] = tiles.b[k][column + j];
      REUSE_UNROLL
      for (int i = 0; i < 8; ++i) {
        REUSE_UNROLL
        for (int j = 0; j < 4; ++j) sums.values[i][j] += a[i] * b[j];
      }
    }
  }
  REUSE_BOTH static void put_out(const Sums& sums, int thread, float (*out)[68]) {
    const int row = thread / 16 * 8, column = thread % 16 * 4;
    REUSE_UNROLL
    for (int i = 0; i < 32; ++i) out[row + i / 4][column + i % 4] = sums.values[i / 4][i % 4];
  }
};

// What tensor cores read of an operand.
REUSE_BOTH inline void put_operand(float& target, float value) { target = round_to_tf32(value); }
REUSE_BOTH inline void put_operand(Half& target, float value) { target = to_half(value); }

// Products on tensor cores, sums in float32: TF32 for Operand float, float16 for Half. Eight warps have 32x32 each.
template <typename OperandType>
struct TensorProduct {
  static constexpr int kDepth = 32;
  using Operand = OperandType;
  static constexpr int kStrideA = sizeof(Operand) == 4 ? kDepth + 4 : kDepth + 8, kStrideB = 72;
  struct Tiles {
    alignas(32) Operand a[128][kStrideA];
    alignas(32) Operand b[kDepth][kStrideB];
  };

  REUSE_BOTH static void put_a(Tiles& tiles, int row, int k, float value) { put_operand(tiles.a[row][k], value); }
  REUSE_BOTH static void put_b(Tiles& tiles, int k, int column, float value) { put_operand(tiles.b[k][column], value); }

#ifdef __CUDA_ARCH__
  template <typename T, typename Nothing = void>
  struct Wmma {
    using Type = nvcuda::wmma::precision::tf32;
    using Pointer = float;
    static constexpr int kStep = 8;
  };
  template <typename Nothing>
  struct Wmma<Half, Nothing> {
    using Type = __half;
    using Pointer = __half;
    static constexpr int kStep = 16;
  };
  using Types = Wmma<Operand>;
  struct Sums {
    nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, Types::kStep, float> parts[2][2];
  };

  __device__ static void clear(Sums& sums) {
    REUSE_UNROLL
    for (int i = 0; i < 4; ++i) nvcuda::wmma::fill_fragment(sums.parts[i / 2][i % 2], 0.0f);
  }
  __device__ static void multiply(const Tiles& tiles, int thread, Sums& sums) {
    using namespace nvcuda::wmma;
    const int warp = thread / 32, row = warp / 2 * 32, column = warp % 2 * 32;
    REUSE_UNROLL
    for (int k = 0; k < kDepth; k += Types::kStep) {
      fragment<matrix_a, 16, 16, Types::kStep, typename Types::Type, row_major> a[2];
      fragment<matrix_b, 16, 16, Types::kStep, typename Types::Type, row_major> b[2];
      REUSE_UNROLL
      for (int i = 0; i < 2; ++i) {
        const auto* from_a = reinterpret_cast<const typename Types::Pointer*>(&tiles.a[row + 16 * i][k]);
        const auto* from_b = reinterpret_cast<const typename Types::Pointer*>(&tiles.b[k][column + 16 * i]);
        load_matrix_sync(a[i], from_a, kStrideA);
        load_matrix_sync(b[i], from_b, kStrideB);
      }
      REUSE_UNROLL
      for (int i = 0; i < 4; ++i) mma_sync(sums.parts[i / 2][i % 2], a[i / 2], b[i % 2], sums.parts[i / 2][i % 2]);
    }
  }
  __device__ static void put_out(const Sums& sums, int thread, float (*out)[68]) {
    const int warp = thread / 32, row = warp / 2 * 32, column = warp % 2 * 32;
    REUSE_UNROLL
    for (int i = 0; i < 4; ++i) {
      nvcuda::wmma::store_matrix_sync(&out[row + i / 2 * 16][column + i % 2 * 16], sums.parts[i / 2][i % 2], 68,
                                      nvcuda::wmma::mem_row_major);
    }
  }
#else
  // A thread's row of its warp's 32x32.
  struct Sums {
    float values[32];
  };

  REUSE_BOTH static void clear(Sums& sums) {
    for (float& value : sums.values) value = 0.0f;
  }
  REUSE_BOTH static void multiply(const Tiles& tiles, int thread, Sums& sums) {
    const int warp = thread / 32, row = warp / 2 * 32 + thread % 32, column = warp % 2 * 32;
    for (int k = 0; k < kDepth; ++k) {
      const float a = to_float(tiles.a[row][k]);
      for (int j = 0; j < 32; ++j) sums.values[j] += a * to_float(tiles.b[k][column + j]);
    }
  }
  REUSE_BOTH static void put_out(const Sums& sums, int thread, float (*out)[68]) {
    const int warp = thread / 32, row = warp / 2 * 32 + thread % 32, column = warp % 2 * 32;
    for (int j = 0; j < 32; ++j) out[row][column + j] = sums.values[j];
  }
#endif
};

// Multiplies the centroids of every block with its panels of some tiles of output channels. A fixed number of thread
// blocks shares out the pieces of 128 rows and 64 columns.
template <typename Product, typename Centroid, typename Packed, typename Entry>
struct ProductKernel {
  static constexpr int kThreads = 256;
  static constexpr int kResident = 2;
  static constexpr int32_t kRows = 128, kColumns = 64;
  union Shared {
    typename Product::Tiles tiles;
    float out[kRows][68];
  };

  int32_t tiles, num_blocks, rows, length, width;
  const int32_t* counts;      // [B]
  const Centroid* centroids;  // [B, rows, L]
  const Packed* panels;       // [tiles, B, L, width]
  EntryScale scale;
  Entry* table;  // [tiles, B, rows, width]

  REUSE_BOTH int64_t pieces() const {
    return static_cast<int64_t>(tiles) * num_blocks * divide_up(rows, kRows) * divide_up(width, kColumns);
  }

  REUSE_BOTH void run(const Group<kThreads>& group, Shared& shared) const {
    const int32_t across = divide_up(width, kColumns), down = divide_up(rows, kRows);
    for (int64_t piece = group.block; piece < pieces(); piece += group.blocks) {
      const int32_t panel = static_cast<int32_t>(piece / across / down);
      const int32_t row = static_cast<int32_t>(piece / across % down) * kRows;
      const int32_t column = static_cast<int32_t>(piece % across) * kColumns;
      const int32_t count = smaller(kRows, smaller(counts[panel % num_blocks], rows) - row);
      if (count > 0) multiply(group, shared, panel, row, column, count);
    }
  }

 private:
  REUSE_BOTH void multiply(const Group<kThreads>& group, Shared& shared, int32_t panel, int32_t row, int32_t column,
                           int32_t count) const {
    const int32_t block = panel % num_blocks;
    const Centroid* a = centroids + (static_cast<int64_t>(block) * rows + row) * length;
    const Packed* b = panels + static_cast<int64_t>(panel) * length * width + column;
    const int32_t columns = smaller(kColumns, width - column);
    PerThread<typename Product::Sums, kThreads> sums;
    group.phase([&](int thread) { Product::clear(sums[thread]); });
    for (int32_t first = 0; first < length; first += Product::kDepth) {
      const int32_t depth = smaller<int32_t>(Product::kDepth, length - first);
      group.phase([&](int thread) {
        load(a + first, b + static_cast<int64_t>(first) * width, count, columns, depth, thread, shared);
      });
      group.phase([&](int thread) { Product::multiply(shared.tiles, thread, sums[thread]); });
    }
    group.phase([&](int thread) { Product::put_out(sums[thread], thread, shared.out); });
    Entry* out = table + (static_cast<int64_t>(panel) * rows + row) * width + column;
    group.phase([&](int thread) {
      const float factor = static_cast<float>(power_of_two(scale.exponent(block)));
      for (int32_t i = thread; i < kRows * kColumns; i += kThreads) {
        const int32_t r = i / kColumns, c = i % kColumns;
        if (r < count && c < columns) {
          out[static_cast<int64_t>(r) * width + c] = from_float<Entry>(shared.out[r][c] * factor);
        }
      }
    });
  }

  REUSE_BOTH void load(const Centroid* a, const Packed* b, int32_t count, int32_t columns, int32_t depth, int thread,
                       Shared& shared) const {
    constexpr int kDepth = Product::kDepth;
    REUSE_UNROLL_8
    for (int i = thread; i < kRows * kDepth; i += kThreads) {
      const int r = i / kDepth, k = i % kDepth;
      const float value = r < count && k < depth ? to_float(a[static_cast<int64_t>(r) * length + k]) : 0.0f;
      Product::put_a(shared.tiles, r, k, value);
    }
    REUSE_UNROLL_8
    for (int i = thread; i < kColumns * kDepth; i += kThreads) {
      const int k = i / kColumns, c = i % kColumns;
      const float value = c < columns && k < depth ? to_float(b[static_cast<int64_t>(k) * width + c]) : 0.0f;
      Product::put_b(shared.tiles, k, c, value);
    }
  }
};

}  // namespace reuse::cuda
