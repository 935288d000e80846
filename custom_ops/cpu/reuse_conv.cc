// Operator ReuseConv: hash, cluster, multiply and gather, one tile of output channels at a time, so that a block's
// table stays in the cache between being written and being read.
#include <algorithm>
#include <optional>
#include <stdexcept>

#include "centroid_gemm.h"
#include "gather.h"
#include "heuristics.h"
#include "int8_scales.h"
#include "reuse/operators.h"
#include "simd/kernels.h"
#include "stopwatch.h"

namespace reuse {
namespace {

// A part of a tile of output channels: all of them, or a strip if the tables of a whole tile would be too large.
struct Strip {
  int64_t group, tile;
  int64_t first;     // channel within the tile
  int64_t channels;  // padded to whole vectors
};

// Computes one strip of output channels after the other.
class StripComputer {
 public:
  StripComputer(Context& context, const Blocking& blocking, const GatherAttributes& attributes,
                const PackedWeights& weights, const Clusters& clusters, const Int8Scales* scales, const float* bias,
                float* y)
      : context_(context),
        blocking_(blocking),
        attributes_(attributes),
        weights_(weights),
        clusters_(clusters),
        scales_(scales),
        bias_(bias),
        y_(y),
        tables_(context.allocator),
        sums_(context.allocator),
        words_(context.allocator) {}

  // Channels per strip.
  int64_t strip_channels(int64_t group, int64_t tile) const {
    const int64_t padded = weights_.padded_size(tile);
    if (scales_ != nullptr) return padded;  // a whole tile is as small as the narrowest strip of float32
    BytesPerChannel bytes{0, 0, blocking_.geometry.rows() * static_cast<int64_t>(sizeof(float))};
    for (int64_t b = first_block(group); b < first_block(group + 1); ++b) {
      bytes.all_tables += bytes_of(b, 1);
      bytes.largest_table = std::max(bytes.largest_table, bytes_of(b, 1));
    }
    if (rows_are_outputs(blocking_)) return choose_copied_channels(padded, bytes.largest_table);
    return choose_strip_channels(padded, bytes);
  }

  void compute(const Strip& strip) {
    const BlockRange all{first_block(strip.group), first_block(strip.group + 1)};
    for (BlockRange range{all.begin, all.begin}; range.end < all.end; range.begin = range.end) {
      const BlockRange one_scale = scales_ == nullptr ? all : scales_->group_of(range.begin);
      range.end = cached_until(range.begin, one_scale.end, strip.channels);
      make_tables(strip, range);
      add(strip, all, one_scale, range);
    }
  }

 private:
  int64_t first_block(int64_t group) const { return group * blocking_.blocks_per_group; }

  // Size of a block's table.
  int64_t bytes_of(int64_t block, int64_t channels) const {
    const int64_t entry = scales_ == nullptr ? sizeof(float) : 1;
    return clusters_.blocks[static_cast<size_t>(block)].count * blocking_.taps_per_block() * channels * entry;
  }

  // The end of the longest range from `begin` on whose tables fit the cache (at least one block).
  int64_t cached_until(int64_t begin, int64_t end, int64_t channels) const {
    int64_t bytes = bytes_of(begin, channels), next = begin + 1;
    for (; next < end; ++next) {
      bytes += bytes_of(next, channels);
      if (bytes > kTablesAtOnce) break;
    }
    return next;
  }

  void make_tables(const Strip& strip, BlockRange range) {
    Stopwatch watch(context_.statistics.gemm_ns);
    int64_t bytes = 0;
    for (int64_t b = range.begin; b < range.end; ++b) bytes += bytes_of(b, strip.channels);
    tables_.resize(static_cast<size_t>(bytes));
    std::vector<Product> products;
    block_tables_.clear();
    uint8_t* table = tables_.data();
    for (int64_t b = range.begin; b < range.end; ++b) {
      const BlockClusters& own = clusters_.blocks[static_cast<size_t>(b)];
      const float* panel = weights_.panel(b, strip.tile) + strip.first * blocking_.sub_vector_length();
      const float* inverse = scales_ == nullptr ? nullptr : scales_->inverse(b, strip.tile);
      products.push_back({own.centroids.data(), own.count, panel, table, inverse});
      block_tables_.push_back({clusters_.ids.data() + b * blocking_.vectors, table});
      table += bytes_of(b, strip.channels);
    }
    const int64_t taps = blocking_.taps_per_block(), padded = weights_.padded_size(strip.tile);
    const bool whole = strip.channels == padded;  // the taps are neighbours in the panel, too
    multiply_centroids(context_, products, blocking_.sub_vector_length(), whole ? taps * padded : strip.channels,
                       whole ? 1 : taps, padded, taps * strip.channels);
  }

  void add(const Strip& strip, BlockRange all, BlockRange one_scale, BlockRange range) {
    Stopwatch watch(context_.statistics.gather_ns);
    const size_t rows = static_cast<size_t>(blocking_.geometry.rows());
    const bool last = range.end == all.end;
    // Between tables of one scale sums of int8 tables are kept as words.
    const BlockRange& begun = scales_ == nullptr ? range : one_scale;
    const bool alone = begun.begin == all.begin && begun.end == all.end;
    if (!alone) sums_.resize(rows * static_cast<size_t>(strip.channels));
    SumsMemory memory{alone ? nullptr : sums_.data(), strip.channels, begun.begin == all.begin};
    if (range.begin != begun.begin || range.end != begun.end) {
      words_.resize(rows * simd::kWordSums);
      memory.words = {words_.data(), range.begin - begun.begin, range.end == begun.end};
    }
    const int64_t channel =
        strip.group * blocking_.geometry.group_out_channels() + weights_.tile_start(strip.tile) + strip.first;
    const int64_t count = std::min(strip.channels, weights_.tile_size(strip.tile) - strip.first);
    const OutputChannels output{channel, count, bias_, y_};
    const simd::Tables tables{block_tables_.data(), static_cast<int64_t>(block_tables_.size()),
                              blocking_.taps_per_block() * strip.channels, strip.channels, strip.channels};
    const float* scale = scales_ == nullptr ? nullptr : scales_->scale(range.begin, strip.tile);
    add_tables(context_, blocking_, attributes_, {tables, scale}, memory, last ? &output : nullptr);
  }

  Context& context_;
  const Blocking& blocking_;
  const GatherAttributes& attributes_;
  const PackedWeights& weights_;
  const Clusters& clusters_;
  const Int8Scales* scales_;  // null: tables are float32
  const float* bias_;
  float* y_;
  Buffer<uint8_t> tables_;
  Buffer<float> sums_;
  Buffer<uint16_t> words_;
  std::vector<simd::BlockTable> block_tables_;
};

}  // namespace

TableType parse_table_type(const std::string& name) {
  if (name == "float") return TableType::kFloat;
  if (name == "int8") return TableType::kInt8;
  throw std::invalid_argument("table is '" + name + "', must be float or int8");
}

PackedWeights pack_for_reuse_conv(Allocator& allocator, const Blocking& blocking, TableType table,
                                  const float* weights) {
  const bool int8 = table == TableType::kInt8;
  return PackedWeights(allocator, blocking, weights, int8 ? simd::kInt8Channels : kTileChannels,
                       int8 ? simd::kInt8Channels : simd::kLanes);
}

void reuse_conv(Context& context, const Blocking& blocking, const HashAttributes& hash_attributes,
                const ClusterAttributes& cluster_attributes, TableType table, const GatherAttributes& gather_attributes,
                const HashParameters& parameters, const PackedWeights& weights, const float* x, const float* bias,
                float* y) {
  const Clusters clusters = hash_and_cluster(context, blocking, hash_attributes, parameters, cluster_attributes, x);
  multiply_and_gather(context, blocking, table, gather_attributes, weights, clusters, bias, y);
}

void multiply_and_gather(Context& context, const Blocking& blocking, TableType table,
                         const GatherAttributes& gather_attributes, const PackedWeights& weights,
                         const Clusters& clusters, const float* bias, float* y) {
  if (blocking.vectors == 0) return;
  std::optional<Int8Scales> scales;
  if (table == TableType::kInt8) scales.emplace(blocking, weights, clusters);
  StripComputer computer(context, blocking, gather_attributes, weights, clusters,
                         scales && scales->usable() ? &*scales : nullptr, bias, y);
  for (int64_t group = 0; group < blocking.geometry.attributes.group; ++group) {
    for (int64_t tile = 0; tile < weights.num_tiles(); ++tile) {
      const int64_t channels = computer.strip_channels(group, tile);
      for (int64_t first = 0; first < weights.tile_size(tile); first += channels) {
        computer.compute({group, tile, first, channels});
      }
    }
  }
}

}  // namespace reuse
