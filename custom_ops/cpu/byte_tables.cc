#include "byte_tables.h"

#include <algorithm>

#include "byte_weights.h"
#include "heuristics.h"
#include "pieces.h"
#include "simd/kernels.h"
#include "stopwatch.h"

namespace reuse {
namespace {

constexpr int32_t kNoStart[simd::kLanes] = {};  // table rows are sums of products alone

// What is multiplied and added at once: the tables of some blocks, of some output channels of the group.
struct Step {
  int64_t first, channels;  // whole vectors
  BlockRange blocks;        // of the group's
  int64_t bytes;            // of the tables
  bool is_first, is_last;   // of these channels: else sums wait in memory
};

class ByteTables {
 public:
  ByteTables(const QuantisedPlan& plan, const Blocking& blocking, Workspace& workspace, int64_t group, uint8_t* y)
      : plan_(plan), blocking_(blocking), workspace_(workspace), group_(group), y_(y) {}

  void run(const ByteVectors& vectors, const ByteWindows& windows) const;

 private:
  // Of the layer's blocks one of the group's.
  int64_t block_of_group(int64_t index) const { return group_ * blocking_.blocks_per_group + index; }
  const BlockVectors& rows_of(const ByteVectors& vectors, int64_t index) const {
    return vectors.blocks[static_cast<size_t>(block_of_group(index))];
  }

  std::vector<Step> cut(const ByteVectors& vectors, int64_t windows) const;
  void cut_blocks(const ByteVectors& vectors, int64_t first, int64_t channels, std::vector<Step>& steps) const;
  // Returns the tables of the step's blocks and taps.
  std::vector<const int32_t*> multiply(const Step& step, const ByteVectors& vectors, int32_t* table) const;
  void multiply_rows(const Step& step, int64_t block, const uint8_t* const* rows, int64_t count, int32_t* table) const;
  void add(const Step& step, const std::vector<const int32_t*>& tables, const ByteWindows& windows, const int32_t* ids,
           int32_t* waiting) const;

  const QuantisedPlan& plan_;
  const Blocking& blocking_;
  Workspace& workspace_;
  int64_t group_;
  uint8_t* y_;
  const simd::MultiplyBytes multiply_bytes_ = simd::multiply_bytes();
};

void ByteTables::run(const ByteVectors& vectors, const ByteWindows& windows) const {
  const std::vector<Step> steps = cut(vectors, windows.count());
  int64_t most_bytes = 0, sum_channels = 0;
  for (const Step& step : steps) {
    most_bytes = std::max(most_bytes, step.bytes);
    if (!step.is_first || !step.is_last) sum_channels = std::max(sum_channels, step.channels);
  }
  Buffer<int32_t> table(workspace_, static_cast<size_t>(most_bytes) / sizeof(int32_t));
  Buffer<int32_t> sums(workspace_, static_cast<size_t>(windows.count() * sum_channels));
  Buffer<int32_t> ids(workspace_, static_cast<size_t>(windows.count() * windows.stride()));
  {
    Stopwatch watch(workspace_.statistics.gather_ns);
    for_pieces(workspace_.parallel, windows.count(), [&](int64_t begin, int64_t end) {
      windows.ids(begin, end - begin, ids.data() + begin * windows.stride());
    });
  }
  for (const Step& step : steps) add(step, multiply(step, vectors, table.data()), windows, ids.data(), sums.data());
}

std::vector<Step> ByteTables::cut(const ByteVectors& vectors, int64_t windows) const {
  std::vector<Step> steps;
  BytesPerChannel bytes{0, 0, windows * static_cast<int64_t>(sizeof(int32_t))};
  for (int64_t b = 0; b < blocking_.blocks_per_group; ++b) {
    const int64_t own = rows_of(vectors, b).count() * table_bytes(blocking_);
    bytes.all_tables += own;
    bytes.largest_table = std::max(bytes.largest_table, own);
  }
  const int64_t padded = plan_.weights().channels();
  for (int64_t tile = 0; tile < padded; tile += kTileChannels) {
    const int64_t of_tile = std::min(kTileChannels, padded - tile), strip = choose_strip_channels(of_tile, bytes);
    for (int64_t first = tile; first < tile + of_tile; first += strip) cut_blocks(vectors, first, strip, steps);
  }
  return steps;
}

// Steps of as many blocks as have tables that fit the cache together.
void ByteTables::cut_blocks(const ByteVectors& vectors, int64_t first, int64_t channels,
                            std::vector<Step>& steps) const {
  const int64_t all = blocking_.blocks_per_group;
  const auto bytes_of = [&](int64_t block) {
    return rows_of(vectors, block).count() * table_bytes(blocking_) * channels;
  };
  for (int64_t begin = 0; begin < all;) {
    int64_t bytes = bytes_of(begin), end = begin + 1;
    for (; end < all && bytes + bytes_of(end) <= kTablesAtOnce; ++end) bytes += bytes_of(end);
    steps.push_back({first, channels, {begin, end}, bytes, begin == 0, end == all});
    begin = end;
  }
}

std::vector<const int32_t*> ByteTables::multiply(const Step& step, const ByteVectors& vectors, int32_t* table) const {
  Stopwatch watch(workspace_.statistics.gemm_ns);
  struct Task {
    int64_t block;
    const uint8_t* const* rows;
    int64_t count;
    int32_t* table;
  };
  std::vector<Task> tasks;
  std::vector<const int32_t*> tables;
  int64_t total = 0;
  for (int64_t b = step.blocks.begin; b < step.blocks.end; ++b) total += rows_of(vectors, b).count();
  const int64_t per_task = task_centroids(total), width = blocking_.taps_per_block() * step.channels;
  for (int64_t b = step.blocks.begin; b < step.blocks.end; ++b) {
    const BlockVectors& own = rows_of(vectors, b);
    for (int64_t tap = 0; tap < blocking_.taps_per_block(); ++tap) tables.push_back(table + tap * step.channels);
    for (int64_t first = 0; first < own.count(); first += per_task) {
      tasks.push_back(
          {block_of_group(b), own.rows.data() + first, std::min(per_task, own.count() - first), table + first * width});
    }
    table += own.count() * width;
  }
  workspace_.parallel.run(static_cast<int64_t>(tasks.size()), [&](int64_t index) {
    const Task& task = tasks[static_cast<size_t>(index)];
    multiply_rows(step, task.block, task.rows, task.count, task.table);
  });
  return tables;
}

void ByteTables::multiply_rows(const Step& step, int64_t block, const uint8_t* const* rows, int64_t count,
                               int32_t* table) const {
  const ByteWeights& weights = plan_.weights();
  const int64_t taps = blocking_.taps_per_block(), width = taps * step.channels, row_bytes = weights.row_bytes();
  // Columns of a step are neighbours in the panel, or one strip of each tap at equal distances, or neighbours by tap.
  const bool whole = step.channels == weights.channels(), one = step.channels == simd::kLanes;
  const int64_t taps_at_once = whole || one ? taps : 1;
  const int64_t strips = taps_at_once * step.channels / simd::kLanes;
  const int64_t distance = one ? weights.channels() : simd::kLanes;  // in columns
  const int32_t* zero_points = weights.zero_points(group_);
  for (int64_t tap = 0; tap < taps; tap += taps_at_once) {
    const simd::ByteProduct product{
        rows, count, 1, row_bytes, weights.strip(block, tap, step.first), 0, distance * row_bytes, strips, kNoStart, 0};
    multiply_bytes_(product, table + tap * step.channels, width);
    if (zero_points == nullptr) continue;
    simd::kernels().subtract_zero_points(product, zero_points + step.first, step.channels, table + tap * step.channels,
                                         width);
  }
}

void ByteTables::add(const Step& step, const std::vector<const int32_t*>& tables, const ByteWindows& windows,
                     const int32_t* ids, int32_t* waiting) const {
  Stopwatch watch(workspace_.statistics.gather_ns);
  const int64_t taps = blocking_.taps_per_block();
  const simd::WindowTables added{tables.data(), static_cast<int64_t>(tables.size()), taps * step.channels,
                                 step.channels};
  const int32_t* start = step.is_first ? plan_.window_start(group_) + step.first : nullptr;
  const int64_t tiles = (windows.count() + kTileWindows - 1) / kTileWindows;
  for_pieces(workspace_.parallel, tiles, [&](int64_t begin, int64_t end) {
    alignas(64) int32_t own[kTileWindows * kTileChannels];
    for (int64_t t = begin; t < end; ++t) {
      const int64_t first = t * kTileWindows, count = std::min(kTileWindows, windows.count() - first);
      int32_t* const sums = step.is_first && step.is_last ? own : waiting + first * step.channels;
      const int32_t* const of_tile = ids + first * windows.stride() + step.blocks.begin * taps;
      simd::kernels().add_windows(added, of_tile, windows.stride(), count, start, sums);
      if (!step.is_last) continue;
      plan_.write(group_, step.first, step.channels, sums, step.channels, count, windows.places() + first, y_);
    }
  });
}

}  // namespace

int64_t table_bytes(const Blocking& blocking) { return blocking.taps_per_block() * int64_t{sizeof(int32_t)}; }

void add_byte_tables(const QuantisedPlan& plan, const Blocking& blocking, Workspace& workspace, int64_t group,
                     const ByteVectors& vectors, const ByteWindows& windows, uint8_t* y) {
  ByteTables(plan, blocking, workspace, group, y).run(vectors, windows);
}

}  // namespace reuse
