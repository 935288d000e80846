// Operator ReuseConv: hash, cluster, multiply and gather, one tile of output channels at a time, so that a block's
// table stays in the cache between being written and being read.
#include <algorithm>

#include "centroid_gemm.h"
#include "gather.h"
#include "reuse/operators.h"
#include "simd/kernels.h"
#include "stopwatch.h"

namespace reuse {
namespace {

// Output channels per tile. Wider tiles spread the gather's address arithmetic over more adds; narrower ones keep the
// table (clusters * taps * channels * 4 bytes) in the L2 cache.
constexpr int64_t kTileChannels = 64;

// Bytes of a block's table above which it is made and used a strip of channels at a time: bounds the scratch memory of
// inputs with hardly any reuse.
constexpr int64_t kTableBudget = int64_t{32} << 20;

// Multiplies a block's centroids with `channels` channels of a tile, from `first` on: table rows are [taps, channels].
void make_table(Context& context, const Blocking& blocking, const PackedWeights& weights, const BlockClusters& own,
                int64_t block, int64_t tile, int64_t first, int64_t channels, float* table) {
  const int64_t padded = weights.padded_size(tile), length = blocking.sub_vector_length();
  const int64_t row = blocking.taps_per_block() * channels;
  const float* panel = weights.panel(block, tile);
  if (channels == padded) {  // the taps are neighbours in the panel, too
    multiply_centroids(context, own.centroids.data(), own.count, length, panel, weights.panel_stride(tile), row, table,
                       row);
    return;
  }
  for (int64_t tap = 0; tap < blocking.taps_per_block(); ++tap) {
    multiply_centroids(context, own.centroids.data(), own.count, length, panel + tap * padded + first,
                       weights.panel_stride(tile), channels, table + tap * channels, row);
  }
}

// Adds a block's part of a tile of output channels to the sums [N*Oh*Ow, padded tile size].
void apply_block(Context& context, const Blocking& blocking, const PackedWeights& weights, const Clusters& clusters,
                 int64_t block, int64_t tile, Buffer<float>& table, float* sums) {
  const BlockClusters& own = clusters.blocks[static_cast<size_t>(block)];
  const int64_t padded = weights.padded_size(tile), taps = blocking.taps_per_block();
  const bool fits = own.count * taps * padded * static_cast<int64_t>(sizeof(float)) <= kTableBudget;
  const int64_t channels = fits ? padded : simd::kLanes;
  table.resize(static_cast<size_t>(own.count * taps * channels));
  for (int64_t first = 0; first < padded; first += channels) {
    {
      Stopwatch watch(context.statistics.gemm_ns);
      make_table(context, blocking, weights, own, block, tile, first, channels, table.data());
    }
    Stopwatch watch(context.statistics.gather_ns);
    add_block(context, blocking, {table.data(), taps * channels, channels, channels},
              clusters.ids.data() + block * blocking.vectors, sums + first, padded);
  }
}

}  // namespace

PackedWeights pack_for_reuse_conv(Allocator& allocator, const Blocking& blocking, const float* weights) {
  return PackedWeights(allocator, blocking, weights, kTileChannels, simd::kLanes);
}

void reuse_conv(Context& context, const Blocking& blocking, const HashAttributes& hash_attributes,
                const ClusterAttributes& cluster_attributes, const GatherAttributes& gather_attributes,
                const HashParameters& parameters, const PackedWeights& weights, const float* x, const float* bias,
                float* y) {
  const ConvGeometry& g = blocking.geometry;
  Buffer<int64_t> codes(context.allocator, static_cast<size_t>(blocking.num_blocks() * blocking.vectors));
  {
    Stopwatch watch(context.statistics.hash_ns);
    hash(context, blocking, hash_attributes, parameters, x, codes.data());
  }
  const Clusters clusters = [&] {
    Stopwatch watch(context.statistics.cluster_ns);
    return cluster(context, blocking, cluster_attributes, x, codes.data());
  }();
  codes.clear();
  Buffer<float> sums(context.allocator), table(context.allocator);
  for (int64_t group = 0; group < g.attributes.group; ++group) {
    for (int64_t tile = 0; tile < weights.num_tiles(); ++tile) {
      const int64_t padded = weights.padded_size(tile);
      sums.resize(static_cast<size_t>(g.rows() * padded));
      std::fill_n(sums.data(), g.rows() * padded, 0.0f);
      for (int64_t b = 0; b < blocking.blocks_per_group; ++b) {
        apply_block(context, blocking, weights, clusters, group * blocking.blocks_per_group + b, tile, table,
                    sums.data());
      }
      Stopwatch watch(context.statistics.gather_ns);
      write_output(context, blocking, gather_attributes, sums.data(), padded,
                   group * g.group_out_channels() + weights.tile_start(tile), weights.tile_size(tile), bias, y);
    }
  }
}

}  // namespace reuse
