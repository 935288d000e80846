// Operator QLinearReuseConv. What follows clustering goes one strip of output channels at a time, so that the tables of
// a strip stay in the cache between being written and being read.
#include <algorithm>
#include <cstring>
#include <vector>

#include "byte_weights.h"
#include "cluster_table.h"
#include "gather.h"
#include "heuristics.h"
#include "reuse/quantised.h"
#include "simd/kernels.h"
#include "stopwatch.h"
#include "tile.h"

namespace reuse {
namespace {

static_assert(kTileVectors == simd::kPackedPixels);

// Distinct vectors of a block, [count, row_bytes].
struct ByteClusters {
  explicit ByteClusters(Allocator& allocator) : rows(allocator) {}
  Buffer<uint8_t> rows;
  int64_t count = 0;
  int64_t guarded = 0;
};

// Runs one after the other what already is a task.
class InTurn final : public Parallel {
 public:
  void run(int64_t count, const std::function<void(int64_t)>& body) override {
    for (int64_t i = 0; i < count; ++i) body(i);
  }
};

// Numbers a block's vectors by first appearance. Those with the fingerprint of another vector are clusters of their
// own, as the guard makes them: each vector is compared with one other.
class ByteNumbering {
 public:
  ByteNumbering(Allocator& allocator, int64_t row_bytes)
      : row_bytes_(row_bytes), table_(allocator), clusters_(allocator) {}

  void start_unit() { table_.reset(); }

  void add(const uint8_t* rows, const int64_t* codes, int64_t count, int32_t* ids) {
    for (int64_t p = 0; p < count; ++p) {
      const uint8_t* row = rows + p * row_bytes_;
      const int32_t found = table_.find(codes[p]);
      ids[p] = found >= 0 && is_equal(row, clusters_.rows.data() + found * row_bytes_) ? found
                                                                                       : open(row, codes[p], found < 0);
    }
  }

  ByteClusters finish() { return std::move(clusters_); }

 private:
  // Rows are a multiple of 16 bytes.
  bool is_equal(const uint8_t* a, const uint8_t* b) const {
    uint64_t different = 0;
    for (int64_t l = 0; l < row_bytes_; l += 16) {
      uint64_t own[2], other[2];
      std::memcpy(own, a + l, sizeof own);
      std::memcpy(other, b + l, sizeof other);
      different |= (own[0] ^ other[0]) | (own[1] ^ other[1]);
    }
    return different == 0;
  }

  int32_t open(const uint8_t* row, int64_t code, bool sharable) {
    const auto id = static_cast<int32_t>(clusters_.count++);
    if (sharable) {
      table_.insert(code, id);
    } else {
      ++clusters_.guarded;
    }
    clusters_.rows.resize(static_cast<size_t>(clusters_.count * row_bytes_));
    std::memcpy(clusters_.rows.data() + id * row_bytes_, row, static_cast<size_t>(row_bytes_));
    return id;
  }

  int64_t row_bytes_;
  ClusterTable table_;
  ByteClusters clusters_;
};

// Stages encode and group.
class ByteClustering {
 public:
  ByteClustering(const QuantisedPlan& plan, const Blocking& blocking, Workspace& workspace, const uint8_t* x)
      : plan_(plan), blocking_(blocking), workspace_(workspace), x_(x) {
    const ConvGeometry& g = blocking.geometry;
    per_image_ = blocking.layout() == Layout::kPatch ? g.out_pixels() : g.in_pixels();
    tiles_per_image_ = (per_image_ + kTileVectors - 1) / kTileVectors;
  }

  // Writes ids [B, V]. Of many blocks each is a task, of few their tiles.
  std::vector<ByteClusters> run(int32_t* ids) const {
    Stopwatch watch(workspace_.statistics.hash_ns);
    std::vector<ByteClusters> clusters;
    const int64_t blocks = blocking_.num_blocks();
    clusters.reserve(static_cast<size_t>(blocks));
    for (int64_t b = 0; b < blocks; ++b) clusters.emplace_back(workspace_);
    const auto number = [&](int64_t block, Parallel& parallel) {
      ByteClusters own = cluster_block(block, parallel, ids + block * blocking_.vectors);
      ByteClusters& kept = clusters[static_cast<size_t>(block)];
      kept.rows.swap(own.rows);
      kept.count = own.count;
      kept.guarded = own.guarded;
    };
    if (blocks < kBlocksToShareOut) {
      for (int64_t b = 0; b < blocks; ++b) number(b, workspace_.parallel);
    } else {
      workspace_.parallel.run(blocks, [&](int64_t block) {
        InTurn in_turn;
        number(block, in_turn);
      });
    }
    return clusters;
  }

 private:
  // Some tiles are packed at once, then numbered.
  ByteClusters cluster_block(int64_t block, Parallel& parallel, int32_t* ids) const {
    const int64_t row_bytes = plan_.weights().row_bytes(), of_tile = kTileVectors * row_bytes;
    const int64_t most = std::clamp<int64_t>(kRoundBytes / of_tile, 1, kRoundTiles);
    Buffer<uint8_t> rows(workspace_, static_cast<size_t>(most * of_tile));
    Buffer<uint8_t> planes(workspace_, static_cast<size_t>(most * of_tile));  // of tiles that are not read in place
    std::memset(planes.data(), 0, planes.size());
    int64_t codes[kRoundTiles * kTileVectors];
    ByteNumbering numbering(workspace_, row_bytes);
    for (int64_t image = 0; image < blocking_.geometry.batch; ++image) {
      if (image == 0 || plan_.scope() == Scope::kImage) numbering.start_unit();
      for (int64_t begin = 0; begin < tiles_per_image_; begin += most) {
        const int64_t count = std::min(most, tiles_per_image_ - begin);
        parallel.run(count, [&](int64_t t) {
          const int64_t first = (begin + t) * kTileVectors;
          pack(block, image, first, planes.data() + t * of_tile, rows.data() + t * of_tile, codes + t * kTileVectors);
        });
        const int64_t first = begin * kTileVectors;
        const int64_t vectors = std::min(count * kTileVectors, per_image_ - first);
        numbering.add(rows.data(), codes, vectors, ids + image * per_image_ + first);
      }
    }
    return numbering.finish();
  }

  void pack(int64_t block, int64_t image, int64_t first, uint8_t* planes, uint8_t* rows, int64_t* codes) const {
    const ConvGeometry& g = blocking_.geometry;
    const int64_t count = std::min(kTileVectors, per_image_ - first), length = blocking_.block_length(block);
    simd::BytePlanes source{planes, kTileVectors, length, plan_.x_flip()};
    if (blocking_.layout() == Layout::kChannel && count == kTileVectors) {
      source.values = x_ + (image * g.in_channels + blocking_.first_channel(block)) * per_image_ + first;
      source.plane = per_image_;
    } else {
      load_tile(blocking_, x_, block, image * per_image_ + first, count, plan_.x_zero_point(), planes);
    }
    simd::kernels().pack_bytes(source, rows, plan_.weights().row_bytes(), codes);
  }

  // What is packed before it is numbered stays in the L2 cache.
  static constexpr int64_t kRoundTiles = 16, kRoundBytes = int64_t{256} << 10;

  const QuantisedPlan& plan_;
  const Blocking& blocking_;
  Workspace& workspace_;
  const uint8_t* x_;
  int64_t per_image_, tiles_per_image_;
};

// What is multiplied and added at once: the tables of some blocks of a group, of some output channels.
struct Step {
  int64_t group;
  int64_t first, channels;  // of the group; whole vectors
  BlockRange blocks;
  int64_t table_bytes;
  bool is_first, is_last;  // of these channels: else sums wait in memory
};

// Stages multiply and assemble.
class ByteTables {
 public:
  ByteTables(const QuantisedPlan& plan, const Blocking& blocking, Workspace& workspace,
             const std::vector<ByteClusters>& clusters, const int32_t* ids, uint8_t* y)
      : plan_(plan), blocking_(blocking), workspace_(workspace), clusters_(clusters), ids_(ids), y_(y) {}

  void run() {
    const std::vector<Step> steps = cut();
    int64_t table_bytes = 0, sum_channels = 0;
    for (const Step& step : steps) {
      table_bytes = std::max(table_bytes, step.table_bytes);
      if (!step.is_first || !step.is_last) sum_channels = std::max(sum_channels, step.channels);
    }
    Buffer<int32_t> tables(workspace_, static_cast<size_t>(table_bytes) / sizeof(int32_t));
    Buffer<int32_t> sums(workspace_, static_cast<size_t>(blocking_.geometry.rows() * sum_channels));
    for (const Step& step : steps) {
      multiply(step, tables.data());
      add(step, sums.data());
    }
  }

 private:
  // Size of a block's table per output channel.
  int64_t channel_bytes(int64_t block) const {
    return clusters_[static_cast<size_t>(block)].count * blocking_.taps_per_block() * int64_t{sizeof(int32_t)};
  }

  std::vector<Step> cut() const {
    std::vector<Step> steps;
    const int64_t padded = plan_.weights().channels();
    for (int64_t group = 0; group < blocking_.geometry.attributes.group; ++group) {
      const BlockRange all{group * blocking_.blocks_per_group, (group + 1) * blocking_.blocks_per_group};
      BytesPerChannel bytes{0, 0, blocking_.geometry.rows() * static_cast<int64_t>(sizeof(int32_t))};
      for (int64_t b = all.begin; b < all.end; ++b) {
        bytes.all_tables += channel_bytes(b);
        bytes.largest_table = std::max(bytes.largest_table, channel_bytes(b));
      }
      for (int64_t tile = 0; tile < padded; tile += kTileChannels) {
        const int64_t of_tile = std::min(kTileChannels, padded - tile), strip = choose_strip_channels(of_tile, bytes);
        for (int64_t first = tile; first < tile + of_tile; first += strip) cut_blocks(group, first, strip, all, steps);
      }
    }
    return steps;
  }

  // Steps of as many blocks as have tables that fit the cache together.
  void cut_blocks(int64_t group, int64_t first, int64_t channels, BlockRange all, std::vector<Step>& steps) const {
    for (int64_t begin = all.begin; begin < all.end;) {
      int64_t bytes = channel_bytes(begin) * channels, end = begin + 1;
      for (; end < all.end && bytes + channel_bytes(end) * channels <= kTablesAtOnce; ++end) {
        bytes += channel_bytes(end) * channels;
      }
      steps.push_back({group, first, channels, {begin, end}, bytes, begin == all.begin, end == all.end});
      begin = end;
    }
  }

  void multiply(const Step& step, int32_t* table) {
    Stopwatch watch(workspace_.statistics.gemm_ns);
    struct Rows {
      int64_t block, first, count;
      int32_t* table;
    };
    std::vector<Rows> tasks;
    block_tables_.clear();
    int64_t total = 0;
    for (int64_t b = step.blocks.begin; b < step.blocks.end; ++b) total += clusters_[static_cast<size_t>(b)].count;
    const int64_t per_task = task_centroids(total), width = blocking_.taps_per_block() * step.channels;
    for (int64_t b = step.blocks.begin; b < step.blocks.end; ++b) {
      const int64_t count = clusters_[static_cast<size_t>(b)].count;
      block_tables_.push_back({ids_ + b * blocking_.vectors, table});
      for (int64_t first = 0; first < count; first += per_task) {
        tasks.push_back({b, first, std::min(per_task, count - first), table + first * width});
      }
      table += count * width;
    }
    workspace_.parallel.run(static_cast<int64_t>(tasks.size()), [&](int64_t index) {
      const Rows& task = tasks[static_cast<size_t>(index)];
      multiply_rows(step, task.block, task.first, task.count, task.table);
    });
  }

  void multiply_rows(const Step& step, int64_t block, int64_t first, int64_t count, int32_t* table) const {
    const ByteWeights& weights = plan_.weights();
    const int64_t taps = blocking_.taps_per_block(), width = taps * step.channels, row_bytes = weights.row_bytes();
    const uint8_t* rows = clusters_[static_cast<size_t>(block)].rows.data() + first * row_bytes;
    // Columns of a step are neighbours in the panel, or one strip of each tap at equal distances, or neighbours by tap.
    const bool whole = step.channels == weights.channels(), one = step.channels == simd::kLanes;
    const int64_t taps_at_once = whole || one ? taps : 1;
    const int64_t strips = taps_at_once * step.channels / simd::kLanes;
    const int64_t distance = one ? weights.channels() : simd::kLanes;  // in columns
    for (int64_t tap = 0; tap < taps; tap += taps_at_once) {
      const simd::ByteProduct product{rows,
                                      count,
                                      row_bytes,
                                      weights.strip(block, tap, step.first),
                                      distance * row_bytes,
                                      strips,
                                      weights.start(block, tap, step.first),
                                      distance};
      multiply_bytes_(product, table + tap * step.channels, width);
    }
    const int32_t* zero_points = weights.zero_points(step.group);
    if (zero_points == nullptr) return;
    simd::kernels().subtract_zero_points(rows, row_bytes, count, zero_points + step.first, step.channels, width, table,
                                         width);
  }

  void add(const Step& step, int32_t* waiting) const {
    Stopwatch watch(workspace_.statistics.gather_ns);
    const ConvGeometry& g = blocking_.geometry;
    const int64_t per_image = (g.out_pixels() + kTilePixels - 1) / kTilePixels, tiles = g.batch * per_image;
    const int64_t per_task = pieces_per_task(tiles);
    const simd::Tables tables{block_tables_.data(), static_cast<int64_t>(block_tables_.size()),
                              blocking_.taps_per_block() * step.channels, step.channels, step.channels};
    workspace_.parallel.run((tiles + per_task - 1) / per_task, [&](int64_t task) {
      alignas(64) int32_t own[kTilePixels * kTileChannels];
      for (int64_t t = task * per_task; t < std::min(tiles, (task + 1) * per_task); ++t) {
        const int64_t image = t / per_image, first = t % per_image * kTilePixels;
        const bool alone = step.is_first && step.is_last;
        int32_t* sums = alone ? own : waiting + (image * g.out_pixels() + first) * step.channels;
        add_tile(step, tables, image, first, std::min(kTilePixels, g.out_pixels() - first), sums);
      }
    });
  }

  // Some pixels that are neighbours in a channel's plane.
  void add_tile(const Step& step, const simd::Tables& tables, int64_t image, int64_t first, int64_t pixels,
                int32_t* sums) const {
    const ConvGeometry& g = blocking_.geometry;
    const int32_t* start = step.is_first ? plan_.bias(step.group) + step.first : nullptr;
    for (int64_t p = 0; p < pixels;) {
      const int64_t row = (first + p) / g.out_w, column = (first + p) % g.out_w;
      const int64_t run = std::min(g.out_w - column, pixels - p);
      simd::kernels().add_int_taps(tables, tap_row(blocking_, image, row, column, run), start,
                                   sums + p * step.channels);
      p += run;
    }
    if (!step.is_last) return;
    const int64_t channel = step.group * g.group_out_channels() + step.first;
    const int64_t count = std::min(step.channels, g.group_out_channels() - step.first);
    const simd::Requantisation how{plan_.scales(step.group) + step.first, plan_.low(), plan_.high(),
                                   plan_.y_zero_point()};
    simd::kernels().write_bytes(sums, step.channels, pixels, count, how,
                                y_ + (image * g.out_channels + channel) * g.out_pixels() + first, g.out_pixels());
  }

  const QuantisedPlan& plan_;
  const Blocking& blocking_;
  Workspace& workspace_;
  const std::vector<ByteClusters>& clusters_;
  const int32_t* ids_;
  uint8_t* y_;
  std::vector<simd::BlockTable> block_tables_;
  const simd::MultiplyBytes multiply_bytes_ = simd::multiply_bytes();
};

}  // namespace

void qlinear_reuse_conv(const QuantisedPlan& plan, const Blocking& blocking, Workspace& workspace, const uint8_t* x,
                        uint8_t* y) {
  count_vectors(workspace.statistics, blocking);
  Buffer<int32_t> ids(workspace, static_cast<size_t>(blocking.num_blocks() * blocking.vectors));
  const std::vector<ByteClusters> clusters = ByteClustering(plan, blocking, workspace, x).run(ids.data());
  for (const ByteClusters& own : clusters) {
    workspace.statistics.clusters += own.count;
    workspace.statistics.guarded += own.guarded;
  }
  if (blocking.geometry.rows() == 0 || blocking.geometry.out_channels == 0) return;
  ByteTables(plan, blocking, workspace, clusters, ids.data(), y).run();
}

}  // namespace reuse
