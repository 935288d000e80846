// Operator QLinearReuseConv. What follows clustering goes one strip of output channels at a time, and where there are
// many distinct vectors band by band of the image, so that tables stay in the cache between being written and read.
#include <algorithm>
#include <atomic>
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

// Distinct vectors of a block, and the ids of its vectors among them; those of an image's first vector come first.
struct BlockVectors {
  const uint8_t* rows;
  int64_t count;
  const int32_t* ids;
};

// Output pixels begin ... end - 1 of some images.
struct PixelRange {
  int64_t image, images, begin, end;
};

// What is multiplied and added at once: the tables of some blocks, of some output channels of the group.
struct Step {
  int64_t first, channels;  // whole vectors
  BlockRange blocks;        // of the group's
  int64_t table_bytes;
  bool is_first, is_last;  // of these channels: else sums wait in memory
};

// Stages multiply and assemble of one group, for some pixels.
class ByteTables {
 public:
  ByteTables(const QuantisedPlan& plan, const Blocking& blocking, Allocator& memory, Parallel& parallel,
             RunStatistics& statistics, int64_t group, uint8_t* y)
      : plan_(plan),
        blocking_(blocking),
        memory_(memory),
        parallel_(parallel),
        statistics_(statistics),
        group_(group),
        y_(y) {}

  // `vectors` are by block of the group.
  void run(const std::vector<BlockVectors>& vectors, const PixelRange& pixels) const {
    const std::vector<Step> steps = cut(vectors, pixels);
    int64_t table_bytes = 0, sum_channels = 0;
    for (const Step& step : steps) {
      table_bytes = std::max(table_bytes, step.table_bytes);
      if (!step.is_first || !step.is_last) sum_channels = std::max(sum_channels, step.channels);
    }
    Buffer<int32_t> tables(memory_, static_cast<size_t>(table_bytes) / sizeof(int32_t));
    Buffer<int32_t> sums(memory_, static_cast<size_t>(count_of(pixels) * sum_channels));
    for (const Step& step : steps) add(step, pixels, multiply(step, vectors, tables.data()), sums.data());
  }

  // Size of a table per output channel and distinct vector.
  static int64_t vector_bytes(const Blocking& blocking) { return blocking.taps_per_block() * int64_t{sizeof(int32_t)}; }

 private:
  static int64_t count_of(const PixelRange& pixels) { return pixels.images * (pixels.end - pixels.begin); }

  std::vector<Step> cut(const std::vector<BlockVectors>& vectors, const PixelRange& pixels) const {
    std::vector<Step> steps;
    BytesPerChannel bytes{0, 0, count_of(pixels) * static_cast<int64_t>(sizeof(int32_t))};
    for (const BlockVectors& own : vectors) {
      bytes.all_tables += own.count * vector_bytes(blocking_);
      bytes.largest_table = std::max(bytes.largest_table, own.count * vector_bytes(blocking_));
    }
    const int64_t padded = plan_.weights().channels();
    for (int64_t tile = 0; tile < padded; tile += kTileChannels) {
      const int64_t of_tile = std::min(kTileChannels, padded - tile), strip = choose_strip_channels(of_tile, bytes);
      for (int64_t first = tile; first < tile + of_tile; first += strip) cut_blocks(vectors, first, strip, steps);
    }
    return steps;
  }

  // Steps of as many blocks as have tables that fit the cache together.
  void cut_blocks(const std::vector<BlockVectors>& vectors, int64_t first, int64_t channels,
                  std::vector<Step>& steps) const {
    const auto all = static_cast<int64_t>(vectors.size());
    const auto bytes_of = [&](int64_t block) {
      return vectors[static_cast<size_t>(block)].count * vector_bytes(blocking_) * channels;
    };
    for (int64_t begin = 0; begin < all;) {
      int64_t bytes = bytes_of(begin), end = begin + 1;
      for (; end < all && bytes + bytes_of(end) <= kTablesAtOnce; ++end) bytes += bytes_of(end);
      steps.push_back({first, channels, {begin, end}, bytes, begin == 0, end == all});
      begin = end;
    }
  }

  // Returns the tables of the step's blocks.
  std::vector<simd::BlockTable> multiply(const Step& step, const std::vector<BlockVectors>& vectors,
                                         int32_t* table) const {
    Stopwatch watch(statistics_.gemm_ns);
    struct Rows {
      int64_t block;
      const uint8_t* rows;
      int64_t count;
      int32_t* table;
    };
    std::vector<Rows> tasks;
    std::vector<simd::BlockTable> tables;
    int64_t total = 0;
    for (int64_t b = step.blocks.begin; b < step.blocks.end; ++b) total += vectors[static_cast<size_t>(b)].count;
    const int64_t per_task = task_centroids(total), width = blocking_.taps_per_block() * step.channels;
    for (int64_t b = step.blocks.begin; b < step.blocks.end; ++b) {
      const BlockVectors& own = vectors[static_cast<size_t>(b)];
      tables.push_back({own.ids, table});
      for (int64_t first = 0; first < own.count; first += per_task) {
        tasks.push_back({group_ * blocking_.blocks_per_group + b, own.rows + first * plan_.weights().row_bytes(),
                         std::min(per_task, own.count - first), table + first * width});
      }
      table += own.count * width;
    }
    parallel_.run(static_cast<int64_t>(tasks.size()), [&](int64_t index) {
      const Rows& task = tasks[static_cast<size_t>(index)];
      multiply_rows(step, task.block, task.rows, task.count, task.table);
    });
    return tables;
  }

  void multiply_rows(const Step& step, int64_t block, const uint8_t* rows, int64_t count, int32_t* table) const {
    const ByteWeights& weights = plan_.weights();
    const int64_t taps = blocking_.taps_per_block(), width = taps * step.channels, row_bytes = weights.row_bytes();
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
    const int32_t* zero_points = weights.zero_points(group_);
    if (zero_points == nullptr) return;
    simd::kernels().subtract_zero_points(rows, row_bytes, count, zero_points + step.first, step.channels, width, table,
                                         width);
  }

  void add(const Step& step, const PixelRange& pixels, const std::vector<simd::BlockTable>& blocks,
           int32_t* waiting) const {
    Stopwatch watch(statistics_.gather_ns);
    const int64_t count = pixels.end - pixels.begin, per_image = (count + kTilePixels - 1) / kTilePixels;
    const int64_t tiles = pixels.images * per_image, per_task = pieces_per_task(tiles);
    const simd::Tables tables{blocks.data(), static_cast<int64_t>(blocks.size()),
                              blocking_.taps_per_block() * step.channels, step.channels, step.channels};
    parallel_.run((tiles + per_task - 1) / per_task, [&](int64_t task) {
      alignas(64) int32_t own[kTilePixels * kTileChannels];
      for (int64_t t = task * per_task; t < std::min(tiles, (task + 1) * per_task); ++t) {
        const int64_t image = t / per_image, first = t % per_image * kTilePixels;
        const bool alone = step.is_first && step.is_last;
        int32_t* sums = alone ? own : waiting + (image * count + first) * step.channels;
        add_tile(step, tables, pixels.image + image, pixels.begin + first, std::min(kTilePixels, count - first), sums);
      }
    });
  }

  // Some pixels that are neighbours in a channel's plane.
  void add_tile(const Step& step, const simd::Tables& tables, int64_t image, int64_t first, int64_t pixels,
                int32_t* sums) const {
    const ConvGeometry& g = blocking_.geometry;
    const int32_t* start = step.is_first ? plan_.bias(group_) + step.first : nullptr;
    for (int64_t p = 0; p < pixels;) {
      const int64_t row = (first + p) / g.out_w, column = (first + p) % g.out_w;
      const int64_t run = std::min(g.out_w - column, pixels - p);
      simd::kernels().add_int_taps(tables, tap_row(blocking_, image, row, column, run), start,
                                   sums + p * step.channels);
      p += run;
    }
    if (!step.is_last) return;
    const int64_t channel = group_ * g.group_out_channels() + step.first;
    const int64_t count = std::min(step.channels, g.group_out_channels() - step.first);
    const simd::Requantisation how{plan_.scales(group_) + step.first, plan_.low(), plan_.high(), plan_.y_zero_point()};
    simd::kernels().write_bytes(sums, step.channels, pixels, count, how,
                                y_ + (image * g.out_channels + channel) * g.out_pixels() + first, g.out_pixels());
  }

  const QuantisedPlan& plan_;
  const Blocking& blocking_;
  Allocator& memory_;
  Parallel& parallel_;
  RunStatistics& statistics_;
  int64_t group_;
  uint8_t* y_;
  const simd::MultiplyBytes multiply_bytes_ = simd::multiply_bytes();
};

// Rows of an image's output, all of whose tables fit the cache; what the rows of another band read, too, is multiplied
// again.
struct Band {
  int64_t image, begin, end;
};

// A group whose tables are much larger than the cache, band by band: pixels that are close to one another read few
// distinct vectors.
class Bands {
 public:
  Bands(const QuantisedPlan& plan, const Blocking& blocking, Workspace& workspace, const std::vector<BlockVectors>& all)
      : plan_(plan), blocking_(blocking), workspace_(workspace), all_(all) {
    for (const BlockVectors& own : all) most_ = std::max(most_, own.count);
    find();
  }

  // Whether little is multiplied more than once.
  bool pays() const {
    int64_t once = 0;
    for (const BlockVectors& own : all_) once += own.count;
    return distinct_ <= kMostRepeated * once;
  }

  void run(int64_t group, uint8_t* y) const {
    std::atomic<int64_t> gemm_ns{0}, gather_ns{0};
    workspace_.parallel.run(static_cast<int64_t>(bands_.size()), [&](int64_t index) {
      InTurn in_turn;
      RunStatistics own;
      run_band(bands_[static_cast<size_t>(index)], ByteTables(plan_, blocking_, workspace_, in_turn, own, group, y));
      gemm_ns += own.gemm_ns;
      gather_ns += own.gather_ns;
    });
    workspace_.statistics.gemm_ns += gemm_ns;
    workspace_.statistics.gather_ns += gather_ns;
  }

 private:
  // Rows of vectors that an output row reads.
  BlockRange read_by(int64_t row) const {
    const ConvGeometry& g = blocking_.geometry;
    const ConvAttributes& a = g.attributes;
    if (blocking_.layout() == Layout::kPatch) return {row, row + 1};
    const int64_t first = row * a.stride_h - a.pad_top, last = first + (a.kernel_h - 1) * a.dilation_h;
    return {std::clamp<int64_t>(first, 0, g.in_h), std::clamp<int64_t>(last + 1, 0, g.in_h)};
  }
  int64_t row_vectors() const {
    const ConvGeometry& g = blocking_.geometry;
    return blocking_.layout() == Layout::kPatch ? g.out_w : g.in_w;
  }
  // The first vector of an image.
  int64_t image_start(int64_t image) const { return image * (blocking_.vectors / blocking_.geometry.batch); }

  // Adds rows to a band as long as its tables fit.
  void find() {
    const ConvGeometry& g = blocking_.geometry;
    const int64_t most = kTablesAtOnce / 2 / (ByteTables::vector_bytes(blocking_) * kNarrowestStrip);
    std::vector<std::vector<int32_t>> seen(all_.size());
    for (size_t b = 0; b < all_.size(); ++b) seen[b].assign(static_cast<size_t>(all_[b].count), -1);
    for (int64_t image = 0; image < g.batch; ++image) {
      for (int64_t begin = 0; begin < g.out_h;) {
        const auto number = static_cast<int32_t>(bands_.size());
        int64_t distinct = 0, end = begin, counted = read_by(begin).begin;
        for (; end < g.out_h; ++end) {
          const BlockRange rows = read_by(end);
          if (end - begin >= kFewestRows && distinct >= most) break;
          for (size_t b = 0; b < all_.size(); ++b) {
            const int32_t* ids = all_[b].ids + image_start(image);
            for (int64_t v = std::max(counted, rows.begin) * row_vectors(); v < rows.end * row_vectors(); ++v) {
              int32_t& last = seen[b][static_cast<size_t>(ids[v])];
              distinct += last != number;
              last = number;
            }
          }
          counted = std::max(counted, rows.end);
        }
        bands_.push_back({image, begin, end});
        distinct_ += distinct;
        begin = end;
      }
    }
  }

  // Numbers the band's vectors anew.
  void run_band(const Band& band, const ByteTables& tables) const {
    const BlockRange rows{read_by(band.begin).begin, read_by(band.end - 1).end};
    const int64_t first = image_start(band.image) + rows.begin * row_vectors();
    const int64_t count = std::max<int64_t>(0, rows.end - rows.begin) * row_vectors();
    const int64_t row_bytes = plan_.weights().row_bytes();
    Buffer<int32_t> ids(workspace_, all_.size() * static_cast<size_t>(count));
    Buffer<int32_t> number(workspace_, static_cast<size_t>(most_));
    std::vector<Buffer<uint8_t>> distinct;
    std::vector<BlockVectors> own;
    distinct.reserve(all_.size());
    for (size_t b = 0; b < all_.size(); ++b) {
      std::fill_n(number.data(), all_[b].count, -1);
      Buffer<uint8_t>& vectors = distinct.emplace_back(workspace_);
      int32_t* const mine = ids.data() + b * static_cast<size_t>(count);
      int32_t found = 0;
      for (int64_t v = 0; v < count; ++v) {
        const int32_t id = all_[b].ids[first + v];
        int32_t& place = number[static_cast<size_t>(id)];
        if (place < 0) {
          place = found++;
          vectors.resize(static_cast<size_t>(found * row_bytes));
          std::memcpy(vectors.data() + place * row_bytes, all_[b].rows + id * row_bytes,
                      static_cast<size_t>(row_bytes));
        }
        mine[v] = place;
      }
      own.push_back({vectors.data(), found, mine - first});
    }
    const int64_t width = blocking_.geometry.out_w;
    tables.run(own, {band.image, 1, band.begin * width, band.end * width});
  }

  // Bands of fewer rows would share most of what they read with the next.
  static constexpr int64_t kFewestRows = 4, kMostRepeated = 2;

  const QuantisedPlan& plan_;
  const Blocking& blocking_;
  Workspace& workspace_;
  const std::vector<BlockVectors>& all_;
  int64_t most_ = 0, distinct_ = 0;
  std::vector<Band> bands_;
};

// Whether the narrowest strips of all tables of a group do not fit the cache.
bool exceeds_cache(const Blocking& blocking, const std::vector<BlockVectors>& vectors) {
  int64_t bytes = 0;
  for (const BlockVectors& own : vectors) bytes += own.count * ByteTables::vector_bytes(blocking) * kNarrowestStrip;
  return bytes > kTablesAtOnce;
}

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
  const ConvGeometry& g = blocking.geometry;
  for (int64_t group = 0; group < g.attributes.group; ++group) {
    std::vector<BlockVectors> vectors;
    for (int64_t b = group * blocking.blocks_per_group; b < (group + 1) * blocking.blocks_per_group; ++b) {
      const ByteClusters& own = clusters[static_cast<size_t>(b)];
      vectors.push_back({own.rows.data(), own.count, ids.data() + b * blocking.vectors});
    }
    if (exceeds_cache(blocking, vectors)) {
      const Bands bands(plan, blocking, workspace, vectors);
      if (bands.pays()) {
        bands.run(group, y);
        continue;
      }
    }
    ByteTables(plan, blocking, workspace, workspace.parallel, workspace.statistics, group, y)
        .run(vectors, {0, g.batch, 0, g.out_pixels()});
  }
}

}  // namespace reuse
