// ReuseConv and Cluster of scope session: what kept clusters need is hashing, a look at the table and the additions.
#include "session_conv.h"

#include <algorithm>

#include "centroid_gemm.h"
#include "gather.h"
#include "heuristics.h"
#include "session_clusters.h"
#include "stopwatch.h"

namespace reuse {
namespace {

RowShape shape_of_rows(const Blocking& blocking, const PackedWeights& weights) {
  RowShape shape{blocking.sub_vector_length(), {}, 0};
  for (int64_t tile = 0; tile < weights.num_tiles(); ++tile) shape.widths.push_back(weights.panel_width(tile));
  shape.bytes = static_cast<int64_t>(sizeof(float)) * (shape.length + blocking.table_width());
  return shape;
}

// Stage multiply, of the new clusters that have rows.
void make_rows(Workspace& workspace, const Blocking& blocking, const PackedWeights& weights, const KeptRun& run) {
  Stopwatch watch(workspace.statistics.gemm_ns);
  for (int64_t tile = 0; tile < weights.num_tiles(); ++tile) {
    std::vector<Product> products;
    for (size_t i = 0; i < run.row_ranges().size(); ++i) {
      const RowRange rows = run.row_ranges()[i];
      if (rows.count == 0) continue;
      const float* panel = weights.panel(static_cast<int64_t>(i) / 2, tile);
      products.push_back({run.pool().centroid(rows.first), rows.count, panel, run.pool().table(tile, rows.first)});
    }
    const int64_t width = weights.panel_width(tile);
    multiply_centroids(workspace, products, blocking.sub_vector_length(), width, 1, 0, width);
  }
}

// Stage assemble, with the rows of all blocks in one place. Blocks whose rows do not fit the cache together are added
// one set after the other; the order of the additions is the same.
void add_rows(Workspace& workspace, const Blocking& blocking, const GatherAttributes& attributes,
              const PackedWeights& weights, const KeptRun& run, const SessionClusters& clusters, const float* bias,
              float* y) {
  Stopwatch watch(workspace.statistics.gather_ns);
  Buffer<float> sums(workspace);
  const auto rows_of = [&](int64_t b) {
    return std::min(run.block(b).count() + clusters.blocks[static_cast<size_t>(b)].clusters.count, blocking.vectors);
  };
  for (int64_t group = 0; group < blocking.geometry.attributes.group; ++group) {
    const BlockRange all{group * blocking.blocks_per_group, (group + 1) * blocking.blocks_per_group};
    for (int64_t tile = 0; tile < weights.num_tiles(); ++tile) {
      const int64_t width = weights.panel_width(tile), channels = weights.padded_size(tile);
      const OutputChannels output{group * blocking.geometry.group_out_channels() + weights.tile_start(tile),
                                  weights.tile_size(tile), bias, y};
      for (int64_t begin = all.begin, end = begin; begin < all.end; begin = end) {
        std::vector<simd::BlockTable> tables;
        for (int64_t bytes = 0; end < all.end; ++end) {
          bytes += rows_of(end) * width * static_cast<int64_t>(sizeof(float));
          if (end > begin && bytes > kTablesAtOnce) break;
          tables.push_back({clusters.ids.data() + end * blocking.vectors, run.pool().table(tile, 0)});
        }
        const bool alone = begin == all.begin && end == all.end;
        if (!alone) sums.resize(static_cast<size_t>(blocking.geometry.rows() * channels));
        const simd::Tables together{tables.data(), end - begin, width, channels, channels};
        add_tables(workspace, blocking, attributes, {together, nullptr},
                   {alone ? nullptr : sums.data(), channels, begin == all.begin}, end == all.end ? &output : nullptr);
      }
    }
  }
}

// The clusters that the run has vectors in, as scope batch has them, for tables of which there is a piece at a time.
Clusters used_clusters(Workspace& workspace, const Blocking& blocking, const KeptRun& run,
                       const SessionClusters& found) {
  const int64_t length = blocking.sub_vector_length();
  Clusters result(workspace, blocking);
  for (int64_t b = 0; b < blocking.num_blocks(); ++b) result.blocks.emplace_back(workspace);
  workspace.parallel.run(blocking.num_blocks(), [&](int64_t block) {
    const BlockClusters& fresh = found.blocks[static_cast<size_t>(block)].clusters;
    BlockClusters& own = result.blocks[static_cast<size_t>(block)];
    Buffer<int32_t> used(workspace, static_cast<size_t>(run.num_rows()));  // ids of kept clusters, by row
    std::fill_n(used.data(), used.size(), -1);
    own.centroids.resize(fresh.centroids.size());
    std::copy_n(fresh.centroids.data(), fresh.centroids.size(), own.centroids.data());
    own.count = fresh.count;
    const int32_t* ids = found.ids.data() + block * blocking.vectors;
    int32_t* own_ids = result.ids.data() + block * blocking.vectors;
    for (int64_t v = 0; v < blocking.vectors; ++v) {
      if (ids[v] < 0) {
        own_ids[v] = -1 - ids[v];
        continue;
      }
      int32_t& id = used[static_cast<size_t>(ids[v])];
      if (id < 0) {
        id = static_cast<int32_t>(own.count++);
        own.centroids.resize(static_cast<size_t>(own.count * length));
        std::copy_n(run.pool().centroid(ids[v]), length, own.centroids.data() + id * length);
      }
      own_ids[v] = id;
    }
  });
  return result;
}

}  // namespace

void reuse_conv_of_session(const ReusePlan& plan, ReuseState& state, const Blocking& blocking, Workspace& workspace,
                           const float* x, float* y) {
  const ReuseAttributes& attributes = plan.attributes();
  KeptRun run(state, blocking, shape_of_rows(blocking, plan.weights()));
  SessionClusters found =
      hash_and_cluster(workspace, blocking, plan.encoder(), attributes.cluster, run, KnownIds::kRows, x);
  const bool all_have_rows = run.take_rows(found.blocks);
  make_rows(workspace, blocking, plan.weights(), run);
  if (all_have_rows && run.num_rows() > 0) {
    workspace.parallel.run(blocking.num_blocks(), [&](int64_t block) {
      const std::vector<int32_t>& rows = run.new_rows(block);
      number_new(blocking, found, block, [&](int32_t c) { return rows[static_cast<size_t>(c)]; });
    });
    add_rows(workspace, blocking, attributes.gather, plan.weights(), run, found, plan.bias(), y);
  } else {
    multiply_and_gather(workspace, blocking, attributes.gather, plan.weights(),
                        used_clusters(workspace, blocking, run, found), plan.bias(), y);
  }
  run.add(found.blocks);
}

void cluster(Workspace& workspace, const Blocking& blocking, const ClusterAttributes& attributes, ReuseState& state,
             const float* x, const int64_t* codes, const std::function<void(const Clusters&)>& use) {
  const int64_t length = blocking.sub_vector_length();
  KeptRun run(state, blocking, {length, {}, static_cast<int64_t>(sizeof(float)) * length});
  SessionClusters found = cluster(workspace, blocking, attributes, run, KnownIds::kPlaces, x, codes);
  Clusters result(workspace, blocking);
  for (int64_t b = 0; b < blocking.num_blocks(); ++b) {
    const KeptBlock& kept = run.block(b);
    const BlockClusters& fresh = found.blocks[static_cast<size_t>(b)].clusters;
    BlockClusters& own = result.blocks.emplace_back(workspace);
    own.count = kept.count() + fresh.count;
    own.centroids.resize(static_cast<size_t>(own.count * length));
    for (int64_t c = 0; c < kept.count(); ++c) {
      std::copy_n(run.pool().centroid(kept.rows[static_cast<size_t>(c)]), length, own.centroids.data() + c * length);
    }
    std::copy_n(fresh.centroids.data(), fresh.count * length, own.centroids.data() + kept.count() * length);
    number_new(blocking, found, b, [&](int32_t c) { return static_cast<int32_t>(kept.count()) + c; });
  }
  result.ids.swap(found.ids);
  run.take_rows(found.blocks);
  use(result);
  run.add(found.blocks);
}

}  // namespace reuse
