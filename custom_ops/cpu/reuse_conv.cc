// Operator ReuseConv. What follows clustering goes one tile of output channels at a time, so that a block's table stays
// in the cache between being written and being read.
#include <algorithm>
#include <optional>
#include <stdexcept>

#include "centroid_gemm.h"
#include "gather.h"
#include "heuristics.h"
#include "int8_scales.h"
#include "reuse/arena.h"
#include "reuse/plan.h"
#include "reuse/text.h"
#include "session_conv.h"
#include "simd/kernels.h"
#include "static_tables.h"
#include "stopwatch.h"

namespace reuse {
namespace {

// A part of a tile of output channels: all of them, or a strip if the tables of a whole tile would be too large.
struct Strip {
  int64_t group, tile;
  int64_t first;     // channel within the tile
  int64_t channels;  // padded to whole vectors
};

// What is multiplied and added at once: a strip's tables of some blocks.
struct Step {
  Strip strip;
  BlockRange blocks;     // whose tables fit the cache together
  BlockRange one_scale;  // the blocks around them whose sums are of the same kind
  BlockRange all;        // of the group, which may be more than are computed now
  int64_t table_bytes;

  // Whether the sums of all blocks are formed at once, and whether those of one scale are: else they wait in memory,
  // the latter as words, as they are of int8 tables.
  bool alone() const { return one_scale.begin == all.begin && one_scale.end == all.end; }
  bool whole_scale() const { return blocks.begin == one_scale.begin && blocks.end == one_scale.end; }
};

// Memory for the largest of all steps, and for sums that wait from one to the next, unless these are elsewhere.
struct StepMemory {
  StepMemory(Arena& arena, const std::vector<Step>& steps, int64_t rows, bool with_sums) {
    int64_t table_bytes = 0, sum_channels = 0, word_channels = 0;
    for (const Step& step : steps) {
      table_bytes = std::max(table_bytes, step.table_bytes);
      if (!step.alone()) sum_channels = std::max(sum_channels, step.strip.channels);
      if (!step.whole_scale()) word_channels = simd::kWordSums;
    }
    tables = arena.take<uint8_t>(table_bytes);
    sums = arena.take<float>(with_sums ? rows * sum_channels : 0);
    words = arena.take<uint16_t>(rows * word_channels);
  }

  uint8_t* tables;
  float* sums;
  uint16_t* words;
};

// Cuts the work into steps.
class StepCutter {
 public:
  // `scales` of int8 tables, or null.
  StepCutter(const Blocking& blocking, const PackedWeights& weights, const Clusters& clusters, const Int8Scales* scales)
      : blocking_(blocking), weights_(weights), clusters_(clusters), scales_(scales) {}

  // The steps of some blocks.
  std::vector<Step> cut(BlockRange blocks) const {
    std::vector<Step> steps;
    for (int64_t group = blocks.begin / blocking_.blocks_per_group; first_block(group) < blocks.end; ++group) {
      const BlockRange own{std::max(blocks.begin, first_block(group)), std::min(blocks.end, first_block(group + 1))};
      for (int64_t tile = 0; tile < weights_.num_tiles(); ++tile) {
        const int64_t channels = strip_channels(own, tile);
        for (int64_t first = 0; first < weights_.tile_size(tile); first += channels) {
          cut_strip({group, tile, first, channels}, own, steps);
        }
      }
    }
    return steps;
  }

  // Size of a block's table.
  int64_t bytes_of(int64_t block, int64_t channels) const {
    const int64_t entry = scales_ == nullptr ? sizeof(float) : 1;
    return clusters_.blocks[static_cast<size_t>(block)].count * blocking_.taps_per_block() * channels * entry;
  }

 private:
  int64_t first_block(int64_t group) const { return group * blocking_.blocks_per_group; }

  int64_t strip_channels(BlockRange blocks, int64_t tile) const {
    const int64_t padded = weights_.padded_size(tile);
    if (scales_ != nullptr) return padded;  // a whole tile is as small as the narrowest strip of float32
    BytesPerChannel bytes{0, 0, blocking_.geometry.rows() * static_cast<int64_t>(sizeof(float))};
    for (int64_t b = blocks.begin; b < blocks.end; ++b) {
      bytes.all_tables += bytes_of(b, 1);
      bytes.largest_table = std::max(bytes.largest_table, bytes_of(b, 1));
    }
    if (rows_are_outputs(blocking_)) return choose_copied_channels(padded, bytes.largest_table);
    return choose_strip_channels(padded, bytes);
  }

  // Steps of as many of the group's blocks as have tables that fit the cache (at least one).
  void cut_strip(const Strip& strip, BlockRange own, std::vector<Step>& steps) const {
    const BlockRange all{first_block(strip.group), first_block(strip.group + 1)};
    int64_t begin = own.begin;
    while (begin < own.end) {
      const BlockRange limit = scales_ == nullptr ? own : scales_->group_of(begin);
      int64_t bytes = bytes_of(begin, strip.channels);
      int64_t end = begin + 1;
      for (; end < limit.end; ++end) {
        const int64_t more = bytes_of(end, strip.channels);
        if (bytes + more > kTablesAtOnce) break;
        bytes += more;
      }
      // Between float32 tables sums are always of the same kind.
      const BlockRange blocks{begin, end};
      steps.push_back({strip, blocks, scales_ == nullptr ? blocks : limit, all, bytes});
      begin = end;
    }
  }

  const Blocking& blocking_;
  const PackedWeights& weights_;
  const Clusters& clusters_;
  const Int8Scales* scales_;
};

// Computes one step after the other.
class StepComputer {
 public:
  // `sums` [N*Oh*Ow, sum_channels] of a group wait from one range of blocks to the next; null if there is one range.
  StepComputer(Workspace& workspace, const Blocking& blocking, const GatherAttributes& attributes,
               const PackedWeights& weights, const Clusters& clusters, const Int8Scales* scales, float* sums,
               const float* bias, float* y)
      : workspace_(workspace),
        blocking_(blocking),
        attributes_(attributes),
        weights_(weights),
        clusters_(clusters),
        scales_(scales),
        cutter_(blocking, weights, clusters, scales),
        sums_(sums),
        bias_(bias),
        y_(y) {}

  static int64_t sum_channels(const PackedWeights& weights) {
    const int64_t last = weights.num_tiles() - 1;
    return weights.tile_start(last) + weights.padded_size(last);
  }

  void run(BlockRange blocks) {
    const std::vector<Step> steps = cutter_.cut(blocks);
    const Placed<StepMemory> memory(workspace_, steps, blocking_.geometry.rows(), sums_ == nullptr);
    for (const Step& step : steps) {
      make_tables(step, memory->tables);
      add(step, *memory);
    }
  }

 private:
  // Stage multiply.
  void make_tables(const Step& step, uint8_t* table) {
    Stopwatch watch(workspace_.statistics.gemm_ns);
    const Strip& strip = step.strip;
    std::vector<Product> products;
    block_tables_.clear();
    for (int64_t b = step.blocks.begin; b < step.blocks.end; ++b) {
      const BlockClusters& own = clusters_.blocks[static_cast<size_t>(b)];
      const float* panel = weights_.panel(b, strip.tile) + strip.first * blocking_.sub_vector_length();
      const float* inverse = scales_ == nullptr ? nullptr : scales_->inverse(b, strip.tile);
      products.push_back({own.centroids.data(), own.count, panel, table, inverse});
      block_tables_.push_back({clusters_.ids.data() + b * blocking_.vectors, table});
      table += cutter_.bytes_of(b, strip.channels);
    }
    const int64_t taps = blocking_.taps_per_block(), padded = weights_.padded_size(strip.tile);
    const bool whole = strip.channels == padded;  // the taps are neighbours in the panel, too
    multiply_centroids(workspace_, products, blocking_.sub_vector_length(), whole ? taps * padded : strip.channels,
                       whole ? 1 : taps, padded, taps * strip.channels);
  }

  // Stage assemble.
  void add(const Step& step, const StepMemory& kept) {
    Stopwatch watch(workspace_.statistics.gather_ns);
    const Strip& strip = step.strip;
    SumsMemory memory = sums_of(step, kept);
    if (!step.whole_scale()) {
      memory.words = {kept.words, step.blocks.begin - step.one_scale.begin, step.blocks.end == step.one_scale.end};
    }
    const int64_t channel =
        strip.group * blocking_.geometry.group_out_channels() + weights_.tile_start(strip.tile) + strip.first;
    const int64_t count = std::min(strip.channels, weights_.tile_size(strip.tile) - strip.first);
    const OutputChannels output{channel, count, bias_, y_};
    const simd::Tables tables{block_tables_.data(), static_cast<int64_t>(block_tables_.size()),
                              blocking_.taps_per_block() * strip.channels, strip.channels, strip.channels};
    const float* scale = scales_ == nullptr ? nullptr : scales_->scale(step.blocks.begin, strip.tile);
    const bool last = step.blocks.end == step.all.end;
    add_tables(workspace_, blocking_, attributes_, {tables, scale}, memory, last ? &output : nullptr);
  }

  SumsMemory sums_of(const Step& step, const StepMemory& kept) const {
    const Strip& strip = step.strip;
    const bool fresh = step.one_scale.begin == step.all.begin;
    if (step.alone()) return {nullptr, strip.channels, fresh};
    if (sums_ == nullptr) return {kept.sums, strip.channels, fresh};
    // A tile's sums lie together, whatever strips it is cut into.
    float* of_tile = sums_ + blocking_.geometry.rows() * weights_.tile_start(strip.tile);
    return {of_tile + strip.first, weights_.padded_size(strip.tile), fresh};
  }

  Workspace& workspace_;
  const Blocking& blocking_;
  const GatherAttributes& attributes_;
  const PackedWeights& weights_;
  const Clusters& clusters_;
  const Int8Scales* scales_;  // null: tables are float32
  StepCutter cutter_;
  float* sums_;
  const float* bias_;
  float* y_;
  std::vector<simd::BlockTable> block_tables_;
};

}  // namespace

TableType parse_table_type(const std::string& name) {
  if (name == "float") return TableType::kFloat;
  if (name == "int8") return TableType::kInt8;
  throw std::invalid_argument("table is '" + readable(name) + "', must be float or int8");
}

// Blocks go through in ranges where the centroids of all of them could take more memory than the input: layout patch
// has each pixel in as many vectors as the kernel has taps. As long as there is room, which is as long as there is much
// reuse, ranges are only clustered one by one; what follows takes them together. Scales of int8 tables need all blocks.
void reuse_conv(const ReusePlan& plan, ReuseState* state, const Blocking& blocking, Workspace& workspace,
                const float* x, float* y) {
  const ReuseAttributes& attributes = plan.attributes();
  if (plan.static_tables() != nullptr) return static_conv(plan, state, blocking, workspace, x, y);
  if (state != nullptr) return reuse_conv_of_session(plan, *state, blocking, workspace, x, y);
  const ConvGeometry& g = blocking.geometry;
  const int64_t bytes_per_cluster = blocking.sub_vector_length() * static_cast<int64_t>(sizeof(float));
  const int64_t room =
      choose_centroid_bytes(g.batch * g.in_channels * g.in_pixels() * static_cast<int64_t>(sizeof(float)));
  const bool can_be_cut =
      plan.weights().table() == TableType::kFloat && can_cluster_some_blocks(blocking, attributes.cluster);
  const int64_t all = blocking.num_blocks();
  // Of a block on average: the last one of a group may be shorter.
  const int64_t most_bytes =
      blocking.vectors * blocking.group_width * g.attributes.group * static_cast<int64_t>(sizeof(float)) / all;
  const int64_t ranges = can_be_cut ? choose_block_ranges(all, most_bytes, room) : 1;
  Clusters clusters(workspace, blocking);
  Buffer<float> sums(workspace);
  int64_t done = 0, held = 0;
  for (int64_t range = 0; range < ranges; ++range) {
    const BlockRange more{all * range / ranges, all * (range + 1) / ranges};
    hash_and_cluster(workspace, blocking, plan.encoder(), attributes.cluster, x, more, clusters);
    for (int64_t b = more.begin; b < more.end; ++b) {
      held += clusters.blocks[static_cast<size_t>(b)].count * bytes_per_cluster;
    }
    if (more.end < all && held <= room / 2) continue;
    if (done == 0 && more.end == all) {
      return multiply_and_gather(workspace, blocking, attributes.gather, plan.weights(), clusters, plan.bias(), y);
    }
    sums.resize(static_cast<size_t>(g.rows() * StepComputer::sum_channels(plan.weights())));
    StepComputer(workspace, blocking, attributes.gather, plan.weights(), clusters, nullptr, sums.data(), plan.bias(), y)
        .run({done, more.end});
    for (; done < more.end; ++done) clusters.blocks[static_cast<size_t>(done)].centroids.clear();
    held = 0;
  }
}

void multiply_and_gather(Workspace& workspace, const Blocking& blocking, const GatherAttributes& attributes,
                         const PackedWeights& weights, const Clusters& clusters, const float* bias, float* y) {
  std::optional<Int8Scales> scales;
  if (weights.table() == TableType::kInt8) scales.emplace(blocking, weights, clusters);
  const Int8Scales* usable = scales && scales->usable() ? &*scales : nullptr;
  StepComputer(workspace, blocking, attributes, weights, clusters, usable, nullptr, bias, y)
      .run({0, blocking.num_blocks()});
}

}  // namespace reuse
