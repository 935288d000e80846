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

// What is multiplied and added at once: a strip's tables of some blocks.
struct Step {
  Strip strip;
  BlockRange blocks;     // whose tables fit the cache together
  BlockRange one_scale;  // the blocks around them whose sums are of the same kind
  BlockRange all;        // of the group
  int64_t table_bytes;

  // Whether the sums of all blocks are formed at once, and whether those of one scale are: else they wait in memory,
  // the latter as words, as they are of int8 tables.
  bool alone() const { return one_scale.begin == all.begin && one_scale.end == all.end; }
  bool whole_scale() const { return blocks.begin == one_scale.begin && blocks.end == one_scale.end; }
};

// Memory for the largest of all steps, and for sums that wait from one to the next.
struct StepMemory {
  StepMemory(Arena& arena, const std::vector<Step>& steps, int64_t rows) {
    int64_t table_bytes = 0, sum_channels = 0, word_channels = 0;
    for (const Step& step : steps) {
      table_bytes = std::max(table_bytes, step.table_bytes);
      if (!step.alone()) sum_channels = std::max(sum_channels, step.strip.channels);
      if (!step.whole_scale()) word_channels = simd::kWordSums;
    }
    tables = arena.take<uint8_t>(table_bytes);
    sums = arena.take<float>(rows * sum_channels);
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

  std::vector<Step> cut() const {
    std::vector<Step> steps;
    for (int64_t group = 0; group < blocking_.geometry.attributes.group; ++group) {
      for (int64_t tile = 0; tile < weights_.num_tiles(); ++tile) {
        const int64_t channels = strip_channels(group, tile);
        for (int64_t first = 0; first < weights_.tile_size(tile); first += channels) {
          cut_strip({group, tile, first, channels}, steps);
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

  // Steps of as many blocks as have tables that fit the cache (at least one).
  void cut_strip(const Strip& strip, std::vector<Step>& steps) const {
    const BlockRange all{first_block(strip.group), first_block(strip.group + 1)};
    int64_t begin = all.begin;
    while (begin < all.end) {
      const BlockRange limit = scales_ == nullptr ? all : scales_->group_of(begin);
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
  StepComputer(Workspace& workspace, const Blocking& blocking, const GatherAttributes& attributes,
               const PackedWeights& weights, const Clusters& clusters, const Int8Scales* scales, const float* bias,
               float* y)
      : workspace_(workspace),
        blocking_(blocking),
        attributes_(attributes),
        weights_(weights),
        clusters_(clusters),
        scales_(scales),
        cutter_(blocking, weights, clusters, scales),
        bias_(bias),
        y_(y) {}

  void run() {
    const std::vector<Step> steps = cutter_.cut();
    const Placed<StepMemory> memory(workspace_, steps, blocking_.geometry.rows());
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
    SumsMemory memory{step.alone() ? nullptr : kept.sums, strip.channels, step.one_scale.begin == step.all.begin};
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

  Workspace& workspace_;
  const Blocking& blocking_;
  const GatherAttributes& attributes_;
  const PackedWeights& weights_;
  const Clusters& clusters_;
  const Int8Scales* scales_;  // null: tables are float32
  StepCutter cutter_;
  const float* bias_;
  float* y_;
  std::vector<simd::BlockTable> block_tables_;
};

}  // namespace

TableType parse_table_type(const std::string& name) {
  if (name == "float") return TableType::kFloat;
  if (name == "int8") return TableType::kInt8;
  throw std::invalid_argument("table is '" + name + "', must be float or int8");
}

void reuse_conv(const ReusePlan& plan, const Blocking& blocking, Workspace& workspace, const float* x, float* y) {
  const ReuseAttributes& attributes = plan.attributes();
  const Clusters clusters = hash_and_cluster(workspace, blocking, plan.encoder(), attributes.cluster, x);
  multiply_and_gather(workspace, blocking, attributes.gather, plan.weights(), clusters, plan.bias(), y);
}

void multiply_and_gather(Workspace& workspace, const Blocking& blocking, const GatherAttributes& attributes,
                         const PackedWeights& weights, const Clusters& clusters, const float* bias, float* y) {
  std::optional<Int8Scales> scales;
  if (weights.table() == TableType::kInt8) scales.emplace(blocking, weights, clusters);
  const Int8Scales* usable = scales && scales->usable() ? &*scales : nullptr;
  StepComputer(workspace, blocking, attributes, weights, clusters, usable, bias, y).run();
}

}  // namespace reuse
