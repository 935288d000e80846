// Kernels of scope static (docs/operators.md, Static tables): vectors to ids of given clusters, and tables of
// given centroids, whose entries have the same bits on every machine.
#pragma once

#include "entries.h"
#include "hash_kernels.h"
#include "numbering_kernels.h"
#include "panel_kernels.h"

namespace reuse::cuda {

// Writes each vector's code as its id, or -1 for a vector that is not finite.
template <typename T>
struct StaticIdsKernel {
  static constexpr int kThreads = kTileThreads;
  static constexpr int kResident = kResidentTiles;
  struct Shared {
    VectorTile<T> tile;
    int32_t spoiled;
  };

  Shape shape;
  Tiling tiling;
  const T* x;
  HashOperands hash;
  int32_t clusters;  // C
  int32_t* ids;      // [B, V]
  RunCounts run_counts;

  REUSE_BOTH int64_t blocks() const { return static_cast<int64_t>(shape.num_blocks) * tiling.tiles(shape.vectors); }

  REUSE_BOTH void run(const Group<kThreads>& group, Shared& shared) const {
    const Tiling::Place place = tiling.tile(group.block, shape.vectors);
    group.phase([&](int thread) {
      shared.tile.clear(thread);
      if (thread == 0) shared.spoiled = 0;
    });
    group.phase([&](int thread) { shared.tile.load(shape, tiling, x, place.block, place.first, place.count, thread); });
    group.phase([&](int thread) {
      if (thread >= place.count) return;
      const bool spoiled = shared.tile.spoiled[thread] != 0;
      if (spoiled) atomic_add(&shared.spoiled, 1);
      ids[static_cast<int64_t>(place.block) * shape.vectors + place.first + thread] =
          spoiled ? -1 : static_cast<int32_t>(code(shared.tile, place, thread));
    });
    group.phase([&](int thread) {
      if (thread != 0) return;
      run_counts.add_guarded(shared.spoiled, false);
      if (place.first == 0) run_counts.add_clusters(place.block, clusters);
    });
  }

 private:
  REUSE_BOTH uint64_t code(const VectorTile<T>& tile, const Tiling::Place& place, int thread) const {
    if (tiling.in_tile) {
      return code_of(tile.vector(shape, tiling, place.block, thread), hash, place.block, shape.length);
    }
    return code_of(NeuronVector<T>(shape, x, place.block, place.first + thread), hash, place.block, shape.length);
  }
};

// Products of given centroids and weights.
template <typename T>
struct StaticProducts {
  Panels panels;
  int32_t clusters;
  const T* centroids;  // [B, C, L]
  const T* packed;     // [tiles, B, L, taps, tile]

  REUSE_BOTH float operator()(int64_t panel, int64_t row, int32_t column) const {
    const T* centroid = centroids + (panel % panels.num_blocks * clusters + row) * panels.length;
    const T* weights = packed + panel * panels.panel_size() + column;
    float sum = 0.0f;
    for (int32_t l = 0; l < panels.length; ++l) {
      sum = add_product(sum, to_float(centroid[l]), to_float(weights[static_cast<int64_t>(l) * panels.width()]));
    }
    return sum;
  }

  // The output channel of a panel's column, or -1 if it is padding.
  REUSE_BOTH int32_t channel(const Shape& shape, int64_t panel, int32_t column) const {
    const int32_t own = static_cast<int32_t>(panel / panels.num_blocks) * panels.tile + column % panels.tile;
    if (own >= shape.group_out_channels) return -1;
    return shape.group_of(static_cast<int32_t>(panel % panels.num_blocks)) * shape.group_out_channels + own;
  }
};

// Finds, per block, the bits of the largest magnitude of a centroid, which are larger yet if one is not finite.
template <typename T>
struct LargestCentroidKernel {
  static constexpr int kThreads = 256;
  using Shared = NothingShared;

  int64_t per_block, count;
  const T* centroids;
  uint32_t* largest;  // [B], starts as 0

  REUSE_BOTH int64_t blocks() const { return divide_up<int64_t>(count, kThreads); }
  REUSE_BOTH void run(const Group<kThreads>& group, Shared&) const {
    group.phase([&](int thread) {
      const int64_t at = group.block * kThreads + thread;
      if (at < count) atomic_max(largest + at / per_block, bits_of(magnitude(to_float(centroids[at]))));
    });
  }
};

// Finds, per column of the panels, the largest magnitude of a product.
template <typename T>
struct LargestProductKernel {
  static constexpr int kThreads = 128;
  using Shared = NothingShared;

  Shape shape;
  StaticProducts<T> products;
  uint32_t* largest;  // [tiles, B, taps, tile]: bits

  REUSE_BOTH static int64_t columns(const Panels& panels) {
    return static_cast<int64_t>(panels.tiles) * panels.num_blocks * panels.width();
  }
  REUSE_BOTH int64_t blocks() const { return divide_up<int64_t>(columns(products.panels), kThreads); }
  REUSE_BOTH void run(const Group<kThreads>& group, Shared&) const {
    group.phase([&](int thread) {
      const int64_t at = group.block * kThreads + thread, panel = at / products.panels.width();
      if (at >= columns(products.panels)) return;
      const int32_t column = static_cast<int32_t>(at % products.panels.width());
      uint32_t most = 0;
      for (int32_t row = 0; row < products.clusters && products.channel(shape, panel, column) >= 0; ++row) {
        most = larger(most, bits_of(magnitude(products(panel, row, column))));
      }
      largest[at] = most;
    });
  }
};

// Rounds to nearest, ties to even.
REUSE_BOTH inline int32_t nearest_integer(float value) {
#ifdef __CUDA_ARCH__
  return __float2int_rn(value);
#else
  return static_cast<int32_t>(std::lrint(value));
#endif
}

// Writes the tables of some tiles: float32, float16 with the blocks' scales, or int8 with the channels' inverse ones.
template <typename T, typename Entry>
struct StaticTableKernel {
  static constexpr int kThreads = 256;
  using Shared = NothingShared;

  Shape shape;
  StaticProducts<T> products;
  EntryScale scale;
  const float* inverses;  // [M], of int8
  int32_t first, count;   // tiles
  Entry* table;           // [count, B, C, taps, tile]

  REUSE_BOTH int64_t entries() const {
    return static_cast<int64_t>(count) * shape.num_blocks * products.clusters * products.panels.width();
  }
  REUSE_BOTH int64_t blocks() const { return divide_up<int64_t>(entries(), kThreads); }
  REUSE_BOTH void run(const Group<kThreads>& group, Shared&) const {
    group.phase([&](int thread) {
      const int64_t at = group.block * kThreads + thread, row = at / products.panels.width();
      if (at >= entries()) return;
      const int64_t panel = static_cast<int64_t>(first) * shape.num_blocks + row / products.clusters;
      const int32_t column = static_cast<int32_t>(at % products.panels.width());
      table[at] = entry(panel, column, products(panel, row % products.clusters, column));
    });
  }

 private:
  REUSE_BOTH Entry entry(int64_t panel, int32_t column, float product) const {
    if constexpr (sizeof(Entry) == 1) {
      const int32_t channel = products.channel(shape, panel, column);
      if (channel < 0) return 0;
      return static_cast<Entry>(nearest_integer(product * inverses[channel]));
    } else {
      const int32_t block = static_cast<int32_t>(panel % shape.num_blocks);
      return from_float<Entry>(product * static_cast<float>(power_of_two(scale.exponent(block))));
    }
  }
};

// Flags of the vectors that have no given cluster.
struct SpoiledFlags {
  const uint8_t* finite;  // [B, V]

  REUSE_BOTH SpoiledFlags of_block(int32_t block, int32_t vectors) const {
    return {finite + static_cast<int64_t>(block) * vectors};
  }
  REUSE_BOTH void prepare(int32_t) const {}
  REUSE_BOTH bool is_set(int32_t vector) const { return finite[vector] == 0; }
};

// Turns codes into ids: vectors that are not finite follow the given clusters, in their order, and are centroids of
// their own. A code of no cluster, which only a wrong model can have, gets id -1.
template <typename T>
struct StaticNumberKernel {
  static constexpr int kThreads = 256;
  using Shared = NothingShared;

  Shape shape;
  const T* x;
  int32_t clusters, rows;    // C and Cmax
  const uint8_t* finite;     // [B, V]
  const int32_t* positions;  // [B, V]: vectors before each that are not finite
  const int32_t* totals;     // [B]: of these
  const int64_t* codes;      // [B, V]
  const T* given;            // [B, C, L]
  int32_t* ids;              // [B, V]
  int32_t* counts;           // [B]
  T* centroids;              // [B, Cmax, L]
  RunCounts run_counts;

  // Vectors of a block, or rows of its centroids, as there are more of these.
  REUSE_BOTH int32_t per_block() const { return divide_up(rows, kThreads); }
  REUSE_BOTH int64_t blocks() const { return static_cast<int64_t>(shape.num_blocks) * per_block(); }
  REUSE_BOTH void run(const Group<kThreads>& group, Shared&) const {
    const int32_t block = static_cast<int32_t>(group.block / per_block());
    const int32_t first = static_cast<int32_t>(group.block % per_block()) * kThreads;
    group.phase([&](int thread) {
      const int32_t index = first + thread, count = clusters + totals[block];
      if (index >= rows) return;
      if (index == 0) {
        counts[block] = count;
        run_counts.add_clusters(block, count);
        run_counts.add_guarded(totals[block], true);
      }
      // Rows of vectors' own are written with the vectors.
      T* const own = centroids + static_cast<int64_t>(block) * rows * shape.length;
      if (index < clusters || index >= count) {
        const T* from = given + (static_cast<int64_t>(block) * clusters + index) * shape.length;
        for (int32_t l = 0; l < shape.length; ++l) {
          own[static_cast<int64_t>(index) * shape.length + l] = index < clusters ? from[l] : T{};
        }
      }
      if (index < shape.vectors) number(block, index, own);
    });
  }

 private:
  REUSE_BOTH void number(int32_t block, int32_t index, T* own) const {
    const int64_t at = static_cast<int64_t>(block) * shape.vectors + index;
    if (finite[at] != 0) {
      const int64_t code = codes[at];
      ids[at] = code >= 0 && code < clusters ? static_cast<int32_t>(code) : -1;
      return;
    }
    ids[at] = clusters + positions[at];
    const NeuronVector<T> vector(shape, x, block, index);
    T* const row = own + static_cast<int64_t>(ids[at]) * shape.length;
    for (int32_t l = 0; l < shape.length; ++l) row[l] = l < vector.length() ? vector.stored(l) : T{};
  }
};

}  // namespace reuse::cuda
