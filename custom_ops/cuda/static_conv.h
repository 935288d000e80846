// Scope static as a sequence of kernels, for any launcher: what a ReuseConv keeps, its runs, and operator Cluster.
#pragma once

#include <algorithm>
#include <vector>

#include "pipeline.h"
#include "reuse/static_entries.h"
#include "static_kernels.h"

namespace reuse::cuda {

// What a node of scope static keeps in device memory.
template <typename T, typename Entry>
struct StaticMemory {
  T* centroids;  // [B, C, L]
  PackedWeightsView<T> weights;
  uint32_t*
      largest;  // bits of the largest magnitudes: of centroids [B]; for int8 tables of products [tiles, B, taps, tile]
  float* scales;  // of int8 tables, and behind them their inverses: [2, M]; else null
  Entry* table;   // [tiles, B, C, taps, tile]; null: made anew in each run
};

// A ReuseConv of scope static. Its memory is filled by prepare(), then, with the scales that the
// host makes of what that found, by write_table().
template <typename T, typename Entry>
class StaticConv {
 public:
  using Image = T;
  using Memory = StaticMemory<T, Entry>;
  static constexpr bool kIsInt8 = sizeof(Entry) == 1;

  // The blocking may be of an input of any size, except for runs.
  StaticConv(const Blocking& blocking, int64_t clusters, bool keep_tables)
      : blocking_(blocking),
        shape_(make_shape(blocking)),
        panels_(make_panels(shape_, tile_channels_of(shape_, kEntriesAtOnce<int8_t>))),
        clusters_(to_int32(clusters, "the number of centroids")),
        keep_tables_(keep_tables) {
    if (kIsInt8) check_static_sums(blocking);
  }

  Memory take(Arena& arena) const {
    Memory m{};
    m.centroids = arena.take<T>(num_centroids() * shape_.length);
    m.weights = PackedWeightsView<T>::take(arena, panels_);
    m.largest = arena.take<uint32_t>(num_largest());
    if (kIsInt8) m.scales = arena.take<float>(2 * int64_t{shape_.out_channels});
    if (keep_tables_) m.table = arena.take<Entry>(tile_entries() * panels_.tiles);
    return m;
  }
  size_t centroid_bytes() const { return static_cast<size_t>(num_centroids() * shape_.length) * sizeof(T); }
  int64_t table_bytes() const { return keep_tables_ ? tile_entries() * panels_.tiles * int64_t{sizeof(Entry)} : 0; }

  // Packs the weights and finds the largest magnitudes; centroids are there already.
  template <typename Launcher>
  void prepare(Launcher& launcher, const Memory& m, const T* weights) const {
    pack_weights(launcher, shape_, panels_, weights, m.weights);
    fill(launcher, m.largest, num_largest(), uint32_t{0});
    const int64_t per_block = static_cast<int64_t>(clusters_) * shape_.length;
    const LargestCentroidKernel<T> of_centroids{per_block, per_block * shape_.num_blocks, m.centroids, m.largest};
    launcher.launch(of_centroids, of_centroids.blocks());
    if (!kIsInt8) return;
    const LargestProductKernel<T> of_products{shape_, products(m), m.largest + shape_.num_blocks};
    launcher.launch(of_products, of_products.blocks());
  }

  int64_t num_largest() const { return shape_.num_blocks + (kIsInt8 ? LargestProductKernel<T>::columns(panels_) : 0); }

  // Returns Memory::scales, empty if there are none, from what prepare() left in Memory::largest. Throws
  // std::invalid_argument for centroids that are not finite, or if there can be no int8 tables.
  std::vector<float> scales(const std::vector<uint32_t>& largest) const {
    for (int32_t block = 0; block < shape_.num_blocks; ++block) {
      if (is_finite(float_of(largest[static_cast<size_t>(block)]))) continue;
      throw std::invalid_argument("centroids hold a value that is not finite");
    }
    if (!kIsInt8) return {};
    const auto channels = static_cast<size_t>(shape_.out_channels);
    std::vector<double> sums(channels, 0.0);
    std::vector<float> products(largest.size());
    std::transform(largest.begin() + shape_.num_blocks, largest.end(), products.begin(), float_of);
    for (int64_t panel = 0; panel < int64_t{panels_.tiles} * panels_.num_blocks; ++panel) {
      for (int32_t c = 0; c < panels_.tile; ++c) {
        const int32_t channel = StaticProducts<T>{panels_, clusters_, nullptr, nullptr}.channel(shape_, panel, c);
        if (channel < 0) continue;
        keep_larger(sums[static_cast<size_t>(channel)],
                    largest_tap_sum(blocking_, products.data() + panel * panels_.width() + c, panels_.tile));
      }
    }
    std::vector<float> result(2 * channels);
    for (size_t m = 0; m < channels; ++m) {
      const StaticScale scale = static_scale(sums[m]);
      result[m] = scale.scale;
      result[channels + m] = scale.inverse;
    }
    return result;
  }

  // Writes the table that is kept, if any, once scales are there.
  template <typename Launcher>
  void write_table(Launcher& launcher, const Memory& m) const {
    if (keep_tables_) write_tiles(launcher, m, 0, panels_.tiles, m.table);
  }

  size_t scratch_bytes() const {
    Arena arena(nullptr);
    take_scratch(arena);
    return arena.used();
  }

  template <typename Launcher>
  void run(Launcher& launcher, const Memory& m, const FusedOperands<T>& o, void* scratch) const {
    Arena arena(scratch);
    const Scratch own = take_scratch(arena);
    launcher.begin_stage(Stage::kHash);
    const StaticIdsKernel<T> hash{shape_, Tiling::of(shape_.length), o.x, o.hash, clusters_, own.ids, {o.statistics}};
    launcher.launch(hash, hash.blocks());
    const int32_t together = keep_tables_ ? panels_.tiles : tiles_together();
    for (int32_t first = 0; first < panels_.tiles; first += together) {
      const int32_t count = std::min(together, panels_.tiles - first);
      if (!keep_tables_) {
        launcher.begin_stage(Stage::kGemm);
        write_tiles(launcher, m, first, count, own.table);
      }
      launcher.begin_stage(Stage::kGather);
      const GatherKernel<T, T, Entry> gather{
          shape_,
          {keep_tables_ ? m.table : own.table, clusters_, panels_.width(), panels_.tile, tile_entries(), true},
          scale(m),
          {o.x, m.weights.panels + panels_.offset(first, 0), panels_},
          own.ids,
          o.bias,
          o.activation,
          {first, count, panels_.tile},
          o.y,
          m.scales};
      launch_gather(launcher, gather);
    }
    launcher.end_stages();
  }

 private:
  struct Scratch {
    int32_t* ids;  // [B, V]
    Entry* table;  // of the tiles that are run together, unless tables are kept
  };
  Scratch take_scratch(Arena& arena) const {
    Scratch own{arena.take<int32_t>(static_cast<int64_t>(shape_.num_blocks) * shape_.vectors), nullptr};
    if (!keep_tables_) own.table = arena.take<Entry>(tile_entries() * tiles_together());
    return own;
  }

  int64_t num_centroids() const { return static_cast<int64_t>(shape_.num_blocks) * clusters_; }
  int64_t tile_entries() const { return num_centroids() * panels_.width(); }
  int32_t tiles_together() const { return tiles_at_once(panels_, clusters_, sizeof(Entry)); }
  StaticProducts<T> products(const Memory& m) const { return {panels_, clusters_, m.centroids, m.weights.panels}; }
  EntryScale scale(const Memory& m) const {
    if (sizeof(Entry) != sizeof(Half)) return {nullptr, nullptr, 0};
    return {m.largest, m.weights.columns, 0};
  }

  template <typename Launcher>
  void write_tiles(Launcher& launcher, const Memory& m, int32_t first, int32_t count, Entry* table) const {
    const StaticTableKernel<T, Entry> write{shape_, products(m), scale(m), m.scales + shape_.out_channels,
                                            first,  count,       table};
    launcher.launch(write, write.blocks());
  }

  Blocking blocking_;
  Shape shape_;
  Panels panels_;
  int32_t clusters_;
  bool keep_tables_;
};

// Operator Cluster of scope static.
template <typename T>
class GivenClusters {
 public:
  GivenClusters(const Blocking& blocking, int64_t clusters)
      : shape_(make_shape(blocking)),
        clusters_(to_int32(clusters, "the number of centroids")),
        rows_(to_int32(std::max<int64_t>(1, clusters + shape_.vectors), "the number of centroids")) {}

  // Rows of centroids.
  int32_t rows() const { return rows_; }

  size_t scratch_bytes() const {
    Arena arena(nullptr);
    take(arena);
    return arena.used();
  }

  template <typename Launcher>
  void run(Launcher& launcher, const T* x, const int64_t* codes, const T* given, int32_t* ids, T* centroids,
           int32_t* counts, int64_t* statistics, void* scratch) const {
    Arena arena(scratch);
    const auto [buffers, totals] = take(arena);
    inspect(launcher, shape_, {}, buffers, x, nullptr);
    scan(launcher, SpoiledFlags{buffers.finite}, shape_, buffers, totals);
    // A run without vectors has nothing to count.
    const RunCounts run_counts{shape_.vectors == 0 ? nullptr : statistics};
    const StaticNumberKernel<T> number{shape_, x,     clusters_, rows_,  buffers.finite, buffers.positions, totals,
                                       codes,  given, ids,       counts, centroids,      run_counts};
    launcher.launch(number, number.blocks());
  }

 private:
  // Of the buffers of numbering, some are not used.
  std::pair<NumberingBuffers, int32_t*> take(Arena& arena) const {
    Numbering numbering{};
    numbering.units = {1, 1, 1, true, 0};
    return {NumberingBuffers::take(arena, shape_, numbering), arena.take<int32_t>(shape_.num_blocks)};
  }

  Shape shape_;
  int32_t clusters_, rows_;
};

}  // namespace reuse::cuda
