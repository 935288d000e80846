// ReuseConv of scope static: vectors to codes, which are rows of tables that there are already, and sums of these rows.
// An incremental one goes on from the sums of its last run: it adds what the rows of other codes than before have more.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <utility>
#include <vector>

#include "heuristics.h"
#include "last_run.h"
#include "pieces.h"
#include "pixel_tiles.h"
#include "reuse/static_entries.h"
#include "simd/kernels.h"
#include "static_ends.h"
#include "static_tables.h"
#include "stopwatch.h"
#include "tile_hasher.h"

namespace reuse {
namespace {

// Planes of rows, one per block and image, that have a place for everything that a tap may read: each vector's row, and
// that of zeros around the image.
struct Planes {
  explicit Planes(const Blocking& blocking) : batch(blocking.geometry.batch) {
    const ConvGeometry& g = blocking.geometry;
    const simd::TapRow first = tap_row(blocking, 0, 0, 0, 1), last = tap_row(blocking, 0, g.out_h - 1, g.out_w - 1, 1);
    top = -first.top;
    left = -first.left;
    inside_h = first.in_h;
    inside_w = first.in_w;
    height = top + std::max(inside_h, last.top + (last.kernel_h - 1) * last.dilation_h + 1);
    width = left + std::max(inside_w, last.left + (last.kernel_w - 1) * last.dilation_w + 1);
  }
  int64_t size() const { return height * width; }
  int64_t start(int64_t block, int64_t image) const { return (block * batch + image) * size(); }

  int64_t batch, height, width;
  int64_t top, left, inside_h, inside_w;  // where the image lies
};

// What is added at once: the tables of some blocks of a group for a tile of its channels.
struct Step {
  int64_t group, tile;
  BlockRange blocks;
  BlockRange flush;  // blocks around them whose rows an int16 can sum
  bool last;         // of the group

  bool finishes() const { return blocks.end == flush.end; }
};

// What becomes of sums of the last run.
enum class Sums : uint8_t { kStay, kAreUpdated, kAreMadeAnew };

template <typename Ends>
class StaticConv {
 public:
  StaticConv(Ends& ends, const Blocking& blocking, Workspace& workspace, ReuseState* state)
      : ends_(ends),
        tables_(ends.tables()),
        blocking_(blocking),
        workspace_(workspace),
        planes_(blocking),
        pixels_(blocking.geometry, kStaticRows, kStaticColumns),
        wide_(tables_.block_bytes() / simd::kOffsetUnit > UINT16_MAX),
        is_int8_(tables_.are_int8()),
        row_words_((planes_.width + simd::kMarkedPlaces - 1) / simd::kMarkedPlaces),
        changed_(workspace),
        parts_per_tile_((pixels_.most_columns() + kPartColumns - 1) / kPartColumns),
        hold_(state, shape_of_last()),
        last_(hold_.get()) {
    cut();
  }

  void run() {
    if (wide_) {
      run_with<uint32_t>();
    } else {
      run_with<uint16_t>();
    }
  }

 private:
  template <typename Offset>
  void run_with() {
    Buffer<Offset> memory(workspace_, last_ == nullptr ? static_cast<size_t>(num_planes() * planes_.size()) : 0);
    Offset* const offsets = last_ == nullptr ? memory.data() : reinterpret_cast<Offset*>(last_->next.data());
    bool all_finite = false;
    {
      Stopwatch watch(workspace_.statistics.hash_ns);
      fill_borders(offsets);
      constexpr int64_t kMostBytes = 256;
      all_finite = tables_.rows() <= kMostBytes ? hash_vectors<uint8_t>(offsets) : hash_vectors<uint16_t>(offsets);
      if (last_ != nullptr) compare_with_last();
    }
    ends_.represent(workspace_);
    // Tables that are not kept are made once for all pixels. A part has all tiles that are side by side, so that its
    // pixels follow one another.
    const int64_t across = pixels_.across(), bands = pixels_.count() / across;
    const int64_t fitting = std::max<int64_t>(1, kWaitingPixels / (pixels_.most_pixels() * across));
    const int64_t at_once = tables_.are_kept() ? fitting : bands;
    const int64_t parts = (bands + at_once - 1) / at_once;
    for (int64_t part = 0; part < parts; ++part) {
      add_pixels(bands * part / parts * across, bands * (part + 1) / parts * across, offsets);
    }
    if (last_ != nullptr) leave_to_next();
    if (all_finite) return;
    Stopwatch watch(workspace_.statistics.gather_ns);
    ends_.mend(workspace_);
  }

  template <typename Offset>
  void fill_borders(Offset* offsets) const {
    const Offset zeros = offset_of<Offset>(tables_.rows());
    workspace_.parallel.run(num_planes(), [&](int64_t plane) {
      Offset* row = offsets + plane * planes_.size();
      for (int64_t r = 0; r < planes_.height; ++r, row += planes_.width) {
        const bool inside = r >= planes_.top && r < planes_.top + planes_.inside_h;
        const int64_t left = inside ? planes_.left : planes_.width;
        std::fill(row, row + left, zeros);
        if (inside) std::fill(row + left + planes_.inside_w, row + planes_.width, zeros);
      }
    });
  }

  template <typename Offset>
  Offset offset_of(int64_t code) const {
    return static_cast<Offset>(code * (tables_.row_bytes() / simd::kOffsetUnit));
  }

  // Stage encode. Returns whether all vectors are finite.
  template <typename Code, typename Offset>
  bool hash_vectors(Offset* offsets) const {
    std::atomic<bool> all_finite{true};
    const auto hash = [&](const TileMemory& memory, int64_t block, int64_t first, int64_t count) {
      Code codes[kTileVectors];
      if (!ends_.encode(block, first, count, memory, codes)) all_finite = false;
      place(block, first, count, codes, offsets);
    };
    const int64_t length = blocking_.sub_vector_length();
    const Encoder& encoder = ends_.encoder();
    if (Ends::kBlocksShareLines) {
      for_pixel_tiles(workspace_, blocking_, encoder, hash);
      return all_finite;
    }
    for_stretches(workspace_.parallel, blocking_, [&](int64_t block, int64_t begin, int64_t end) {
      const Placed<TileMemory> memory(workspace_, length, encoder);
      for_tiles(begin, end, [&](int64_t first, int64_t count) { hash(*memory, block, first, count); });
    });
    return all_finite;
  }

  // Writes the offsets of vectors that are neighbours to where they are in the block's planes.
  template <typename Code, typename Offset>
  void place(int64_t block, int64_t first, int64_t count, const Code* codes, Offset* offsets) const {
    const Offset unit = offset_of<Offset>(1);
    const int64_t inside = planes_.inside_h * planes_.inside_w;
    for (int64_t done = 0; done < count;) {
      const int64_t image = (first + done) / inside, pixel = (first + done) % inside;
      const int64_t row = pixel / planes_.inside_w, column = pixel % planes_.inside_w;
      const int64_t run = std::min(count - done, planes_.inside_w - column);
      Offset* to = offsets + planes_.start(block, image) + (planes_.top + row) * planes_.width + planes_.left + column;
      for (int64_t p = 0; p < run; ++p) to[p] = static_cast<Offset>(*codes++ * unit);
      done += run;
    }
  }

  int64_t num_planes() const { return blocking_.num_blocks() * planes_.batch; }
  int64_t offset_bytes() const { return wide_ ? sizeof(uint32_t) : sizeof(uint16_t); }
  int64_t num_flushes() const {
    const int64_t most = flush_blocks();
    return (blocking_.blocks_per_group + most - 1) / most;
  }
  // Blocks whose sums an int16 holds.
  int64_t flush_blocks() const { return is_int8_ ? kMostTapSums / tap_sums(blocking_) : blocking_.blocks_per_group; }

  LastRunShape shape_of_last() const {
    const ConvGeometry& g = blocking_.geometry;
    const int64_t offsets = num_planes() * planes_.size() * offset_bytes();
    const int64_t words = g.attributes.group * tables_.num_tiles() * num_flushes() * g.rows() * simd::kStaticChannels;
    return {g.batch, g.in_h, g.in_w, offsets, offsets, words * static_cast<int64_t>(sizeof(uint16_t))};
  }

  // The kept sums of a tile of pixels, for a step's channels and the blocks of a flush.
  uint16_t* kept_words(const Step& step, int64_t flush, const PixelTile& tile) const {
    const ConvGeometry& g = blocking_.geometry;
    const int64_t index = (step.group * tables_.num_tiles() + step.tile) * num_flushes() + flush;
    auto* const words = reinterpret_cast<uint16_t*>(last_->result.data());
    return words + (index * g.rows() + first_pixel(tile)) * simd::kStaticChannels;
  }

  const uint8_t* last_offsets(int64_t block, int64_t image) const {
    return last_->input.data() + planes_.start(block, image) * offset_bytes();
  }

  // Marks the vectors that have another row than in the last run, and decides for each tile of pixels.
  void compare_with_last() {
    sums_of_.assign(static_cast<size_t>(pixels_.count() * parts_per_tile_), Sums::kAreMadeAnew);
    if (last_->empty) return;
    changed_.resize(static_cast<size_t>((blocking_.num_blocks() + 1) * planes_.batch * planes_.height * row_words_));
    workspace_.parallel.run(planes_.batch * planes_.height,
                            [&](int64_t task) { mark_row(task / planes_.height, task % planes_.height); });
    workspace_.parallel.run(pixels_.count(), [&](int64_t index) {
      const PixelTile tile = pixels_[index];
      for (int64_t part = 0; part * kPartColumns < tile.columns; ++part) {
        sums_of_[static_cast<size_t>(index * parts_per_tile_ + part)] = sums_of(part_of(tile, part, part + 1));
      }
    });
  }

  // The marks of a block's vectors, or behind those of all blocks, where any of them has one.
  const uint64_t* marks(int64_t block, int64_t image) const {
    return changed_.data() + (block * planes_.batch + image) * planes_.height * row_words_;
  }
  uint64_t* marks(int64_t block, int64_t image) {
    return const_cast<uint64_t*>(std::as_const(*this).marks(block, image));
  }

  void mark_row(int64_t image, int64_t row) {
    const int64_t bytes = row * planes_.width * offset_bytes(), blocks = blocking_.num_blocks();
    uint64_t* const any = marks(blocks, image) + row * row_words_;
    std::fill_n(any, row_words_, uint64_t{0});
    for (int64_t block = 0; block < blocks; ++block) {
      uint64_t* const own = marks(block, image) + row * row_words_;
      const int64_t start = planes_.start(block, image) * offset_bytes() + bytes;
      simd::kernels().mark_changes(last_->input.data() + start, last_->next.data() + start, wide_, planes_.width, own);
      for (int64_t i = 0; i < row_words_; ++i) any[i] |= own[i];
    }
  }

  // Parts of a tile, side by side.
  static PixelTile part_of(const PixelTile& tile, int64_t begin, int64_t end) {
    const int64_t from = begin * kPartColumns, to = std::min(end * kPartColumns, tile.columns);
    return {tile.image, tile.row, tile.rows, tile.column + from, to - from};
  }

  Sums sums_of(const PixelTile& part) const {
    const simd::StaticPixels pixels = pixels_of(part);
    const int64_t top = pixels.first / pixels.width, left = pixels.first % pixels.width;
    const int64_t rows = simd::read_rows(pixels), columns = simd::read_columns(pixels), blocks = blocking_.num_blocks();
    const auto changes = [&](int64_t block) {
      int64_t count = 0;
      const uint64_t* row = marks(block, part.image) + top * row_words_;
      for (int64_t r = 0; r < rows; ++r, row += row_words_) count += simd::count_marked(row, left, left + columns);
      return count;
    };
    if (changes(blocks) == 0) return Sums::kStay;
    const double most = kUpdatedShare * static_cast<double>(blocks * rows * columns);
    double count = 0.0;
    for (int64_t block = 0; block < blocks; ++block) {
      count += static_cast<double>(changes(block));
      if (count > most) return Sums::kAreMadeAnew;
    }
    return Sums::kAreUpdated;
  }

  // Calls body(part, sums) for parts of a pixel tile, as large as can be, that the same becomes of.
  template <typename Body>
  void for_parts(int64_t index, const Body& body) const {
    const PixelTile tile = pixels_[index];
    const int64_t count = (tile.columns + kPartColumns - 1) / kPartColumns;
    const Sums* own = sums_of_.data() + index * parts_per_tile_;
    for (int64_t begin = 0, end = 0; begin < count; begin = end) {
      while (end < count && own[end] == own[begin]) ++end;
      body(part_of(tile, begin, end), own[begin]);
    }
  }

  void leave_to_next() {
    const bool was_useful = last_->empty || count_changes() >= kLeastGain;
    last_->input.swap(last_->next);
    hold_.leave(was_useful);
  }

  // Counts what has become of the sums of the last run, which there were. Returns how much they have gained.
  double count_changes() const {
    RunStatistics& statistics = workspace_.statistics;
    statistics.anew = 0;
    for (int64_t row = 0; row < num_planes() * planes_.height; ++row) {
      const uint64_t* own = changed_.data() + row * row_words_;
      statistics.changed += simd::count_marked(own, planes_.left, planes_.left + planes_.inside_w);
    }
    double gain = 0.0;
    for (int64_t index = 0; index < pixels_.count(); ++index) {
      for_parts(index, [&](const PixelTile& part, Sums how) {
        const int64_t pixels = part.rows * part.columns;
        if (how == Sums::kAreMadeAnew) statistics.recomputed += pixels;
        if (how != Sums::kAreMadeAnew) gain += static_cast<double>(pixels) * (how == Sums::kStay ? 1.0 : 0.5);
      });
    }
    return gain / static_cast<double>(blocking_.geometry.rows());
  }

  void cut() {
    const int64_t per_group = blocking_.blocks_per_group, bytes = tables_.block_bytes();
    const int64_t set_bytes = choose_static_tables(blocking_.geometry.rows(), per_group * bytes);
    const int64_t at_once = std::max<int64_t>(1, set_bytes / bytes);
    const int64_t most = flush_blocks();
    for (int64_t group = 0; group < blocking_.geometry.attributes.group; ++group) {
      const BlockRange all{group * per_group, (group + 1) * per_group};
      for (int64_t tile = 0; tile < tables_.num_tiles(); ++tile) {
        for (int64_t flush = all.begin; flush < all.end; flush += most) {
          const BlockRange flushed{flush, std::min(all.end, flush + most)};
          for (int64_t begin = flush; begin < flushed.end; begin += at_once) {
            const int64_t end = std::min(flushed.end, begin + at_once);
            steps_.push_back({group, tile, {begin, end}, flushed, end == all.end});
          }
        }
      }
    }
  }

  // Goes through all steps for some tiles of pixels, whose sums wait from step to step.
  template <typename Offset>
  void add_pixels(int64_t begin, int64_t end, const Offset* offsets) {
    const int64_t channels = tables_.tile_channels(), first = first_pixel(pixels_[begin]);
    const int64_t rows = (end == pixels_.count() ? blocking_.geometry.rows() : first_pixel(pixels_[end])) - first;
    const bool one_step = steps_[0].last && steps_[0].finishes();
    const bool one_flush = steps_[0].flush.end == blocking_.blocks_per_group;
    const bool words_wait = is_int8_ && !one_step && last_ == nullptr;
    Buffer<uint16_t> words(workspace_, static_cast<size_t>(words_wait ? rows * simd::kStaticChannels : 0));
    const bool float_sums_wait = last_ == nullptr && (is_int8_ ? !one_flush : !one_step);
    Buffer<float> sums(workspace_, static_cast<size_t>(float_sums_wait ? rows * channels : 0));
    Buffer<uint8_t> own_tables(workspace_);
    for (size_t s = 0; s < steps_.size(); ++s) {
      const Step& step = steps_[s];
      const std::vector<simd::StaticBlock> blocks = tables_of(step, own_tables);
      Stopwatch watch(workspace_.statistics.gather_ns);
      const Step* next = s + 1 < steps_.size() ? &steps_[s + 1] : nullptr;
      const int64_t count = end - begin;
      for_pieces(workspace_.parallel, count, [&](int64_t from, int64_t to) {
        // On the stack: tasks are many and short.
        alignas(64) float own_sums[kMostStaticPixels * simd::kStaticChannels];
        std::vector<simd::StaticBlock> of_image = blocks;
        for (int64_t t = from; t < to; ++t) {
          const PixelTile tile = pixels_[begin + t];
          for (size_t b = 0; b < blocks.size(); ++b) {
            const int64_t block = step.blocks.begin + static_cast<int64_t>(b);
            of_image[b].offsets = offsets + planes_.start(block, tile.image);
            if (changed_.size() == 0) continue;
            of_image[b].before = last_offsets(block, tile.image);
            of_image[b].changed = marks(block, tile.image);
          }
          simd::StaticBlocks own{of_image.data(),
                                 static_cast<int64_t>(of_image.size()),
                                 tables_.tap_bytes(),
                                 sizeof(Offset) > sizeof(uint16_t),
                                 nullptr,
                                 0,
                                 {}};
          if (next != nullptr) fetch_share(*next, t, count, own);
          if (last_ != nullptr) {
            add_to_last(step, own, begin + t, own_sums);
            continue;
          }
          const Waiting waiting{words.size() == 0 ? nullptr : words.data(), sums.size() == 0 ? nullptr : sums.data(),
                                first};
          add_tile(step, own, tile, waiting, own_sums);
        }
      });
    }
  }

  // The step's tables, without offsets. Those that are not kept are made in `memory`: stage multiply.
  std::vector<simd::StaticBlock> tables_of(const Step& step, Buffer<uint8_t>& memory) const {
    const int64_t count = step.blocks.end - step.blocks.begin, bytes = tables_.block_bytes();
    const uint8_t* rows = tables_.kept(step.blocks.begin, step.tile);
    if (rows == nullptr) {
      Stopwatch watch(workspace_.statistics.gemm_ns);
      memory.resize(static_cast<size_t>(count * bytes));
      workspace_.parallel.run(count, [&](int64_t b) {
        tables_.write(workspace_, step.blocks.begin + b, step.tile, memory.data() + b * bytes);
      });
      rows = memory.data();
    }
    std::vector<simd::StaticBlock> blocks;
    blocks.reserve(static_cast<size_t>(count));
    for (int64_t b = 0; b < count; ++b) blocks.push_back({rows + b * bytes, nullptr});
    return blocks;
  }

  // Lets pixel tile `index` of `count` fetch its share of the tables of the next step, which are contiguous.
  void fetch_share(const Step& next, int64_t index, int64_t count, simd::StaticBlocks& blocks) const {
    const uint8_t* kept = tables_.kept(next.blocks.begin, next.tile);
    if (kept == nullptr) return;
    const int64_t lines = (next.blocks.end - next.blocks.begin) * tables_.block_bytes() / kLineBytes;
    const int64_t first = lines * index / count;
    blocks.next_tables = kept + first * kLineBytes;
    blocks.next_lines = lines * (index + 1) / count - first;
  }

  int64_t first_channel(const Step& step) const {
    return step.group * blocking_.geometry.group_out_channels() + step.tile * tables_.tile_channels();
  }
  simd::FetchedPlanes lines_of(const Step& step, const PixelTile& tile) const {
    return ends_.lines(first_channel(step), tables_.tile_size(step.tile), tile, pixels_.whole_rows());
  }
  void write(const Step& step, const PixelTile& tile, const simd::Sums& sums, int64_t row_sums) const {
    ends_.write(first_channel(step), tables_.tile_size(step.tile), tile, pixels_.whole_rows(), sums, row_sums);
  }

  // The number of the tile's first output pixel; tiles are in that order.
  int64_t first_pixel(const PixelTile& tile) const {
    const ConvGeometry& g = blocking_.geometry;
    return (tile.image * g.out_h + tile.row) * g.out_w + tile.column;
  }

  // Sums that wait from step to step: [pixels, channels], from pixel `first` on.
  struct Waiting {
    uint16_t* words;
    float* sums;
    int64_t first;
  };

  // Stage assemble for a tile of pixels. `own_sums` holds them where none wait.
  void add_tile(const Step& step, const simd::StaticBlocks& blocks, const PixelTile& tile, const Waiting& waiting,
                float* own_sums) const {
    const ConvGeometry& g = blocking_.geometry;
    const bool done = step.last && step.finishes(), wait = waiting.sums != nullptr;
    const int64_t channels = tables_.tile_channels(), index = first_pixel(tile) - waiting.first;
    float* const sums = wait ? waiting.sums + index * channels : own_sums;
    const int64_t row_sums = (wait ? g.out_w : tile.columns) * channels;
    const float* scale = done ? tables_.scale(step.group, step.tile) : nullptr;
    const bool fresh = step.flush.begin == step.group * blocking_.blocks_per_group;
    simd::StaticBlocks own = blocks;
    if (done) own.output = lines_of(step, tile);
    const simd::StaticPixels pixels = pixels_of(tile);
    if (is_int8_) {
      const simd::StaticWords words{waiting.words == nullptr ? nullptr : waiting.words + index * simd::kStaticChannels,
                                    g.out_w * simd::kStaticChannels,
                                    sums_to(step.blocks.end, step.flush),
                                    step.blocks.begin == step.flush.begin,
                                    step.finishes(),
                                    !step.finishes()};
      simd::kernels().add_static_int8(own, pixels, words, {sums, channels, row_sums, fresh, scale});
    } else {
      const bool first_blocks = step.blocks.begin == step.flush.begin;  // all of a group are summed without a flush
      simd::kernels().add_static_float(own, pixels, channels, {sums, channels, row_sums, first_blocks, nullptr});
    }
    if (!done) return;
    write(step, tile, {sums, channels, false}, row_sums);
  }

  // The same where sums are kept: pixel tile `index` goes on from those of the last run.
  void add_to_last(const Step& step, const simd::StaticBlocks& blocks, int64_t index, float* own_sums) const {
    constexpr int64_t kChannels = simd::kStaticChannels;
    const PixelTile tile = pixels_[index];
    const bool done = step.last && step.finishes();
    simd::StaticBlocks own = blocks;
    if (done) own.output = lines_of(step, tile);
    const int64_t row_sums = tile.columns * kChannels;
    for_parts(index, [&](const PixelTile& part, Sums how) {
      float* sums = own_sums + (part.column - tile.column) * kChannels;
      add_to_last(step, own, part, how, {sums, kChannels, row_sums, true, nullptr});
      own.next_lines = own.output.lines = 0;  // once is enough
    });
    if (done) write(step, tile, {own_sums, kChannels, false}, row_sums);
  }

  void add_to_last(const Step& step, const simd::StaticBlocks& blocks, const PixelTile& part, Sums how,
                   simd::StaticSums sums) const {
    const simd::Kernels& kernels = simd::kernels();
    const simd::StaticPixels pixels = pixels_of(part);
    const int64_t row_stride = blocking_.geometry.out_w * simd::kStaticChannels, flushes = num_flushes();
    const int64_t flush = (step.flush.begin - step.group * blocking_.blocks_per_group) / flush_blocks();
    const bool done = step.last && step.finishes();
    simd::StaticWords words{
        kept_words(step, flush, part),         row_stride,           sums_to(step.blocks.end, step.flush),
        step.blocks.begin == step.flush.begin, done && flushes == 1, true};
    if (how == Sums::kAreMadeAnew) {
      sums.scale = tables_.scale(step.group, step.tile);
      kernels.add_static_int8(blocks, pixels, words, sums);
      if (words.finish) return;
    }
    if (how == Sums::kAreUpdated) kernels.update_static_int8(blocks, pixels, row_words_, words);
    if (!done) return;
    for (int64_t f = 0; f < flushes; ++f) {
      const int64_t first = step.group * blocking_.blocks_per_group + f * flush_blocks();
      words.fresh = false;
      words.values = kept_words(step, f, part);
      words.sums = sums_to(std::min(first + flush_blocks(), step.blocks.end), {first, 0});
      sums.fresh = f == 0;
      sums.scale = f + 1 < flushes ? nullptr : tables_.scale(step.group, step.tile);
      kernels.finish_static_int8(blocks.output, pixels, words, sums);
    }
  }

  // The sums of neighbouring taps of a flush's blocks before `end`.
  int64_t sums_to(int64_t end, const BlockRange& flush) const { return (end - flush.begin) * tap_sums(blocking_); }

  simd::StaticPixels pixels_of(const PixelTile& tile) const {
    const simd::TapRow taps = tap_row(blocking_, 0, tile.row, tile.column, tile.columns);
    return {(taps.top + planes_.top) * planes_.width + taps.left + planes_.left,
            planes_.width,
            taps.kernel_h,
            taps.kernel_w,
            taps.dilation_h,
            taps.dilation_w,
            tap_row(blocking_, 0, tile.row + 1, tile.column, tile.columns).top - taps.top,
            taps.stride_w,
            tile.rows,
            tile.columns};
  }

  Ends& ends_;
  const typename Ends::Tables& tables_;
  const Blocking& blocking_;
  Workspace& workspace_;
  const Planes planes_;
  const PixelTiles pixels_;
  const bool wide_, is_int8_;
  std::vector<Step> steps_;
  // Where sums are kept from run to run; else there is nothing in these.
  const int64_t row_words_;   // words of `changed_` for a row of a plane
  Buffer<uint64_t> changed_;  // by plane and row, a bit for each place
  const int64_t parts_per_tile_;
  std::vector<Sums> sums_of_;  // by tile of pixels and its parts
  LastRunHold hold_;
  LastRun* const last_;
};

template <typename Ends>
void run(Ends ends, ReuseState* state, const Blocking& blocking, Workspace& workspace) {
  RunStatistics& statistics = workspace.statistics;
  count_vectors(statistics, blocking);
  if (ends.tables().are_kept()) statistics.table_bytes = ends.tables().bytes();
  statistics.anew = state == nullptr ? 0 : 1;  // unless sums are found that were kept
  if (blocking.geometry.rows() > 0 && blocking.geometry.out_channels > 0) {
    StaticConv<Ends>(ends, blocking, workspace, state).run();
  }
  statistics.clusters += ends.clusters();
}

}  // namespace

void static_conv(const ReusePlan& plan, ReuseState* state, const Blocking& blocking, Workspace& workspace,
                 const float* x, float* y) {
  run(FloatEnds(plan, blocking, x, y), state, blocking, workspace);
}

void qlinear_reuse_conv(const StaticBytePlan& plan, ReuseState* state, const Blocking& blocking, Workspace& workspace,
                        const uint8_t* x, uint8_t* y) {
  run(StaticByteEnds(plan, blocking, x, y), state, blocking, workspace);
}

void qlinear_reuse_conv(const CodedBytePlan& plan, ReuseState*, const Blocking& blocking, Workspace& workspace,
                        const uint8_t* x, uint8_t* y) {
  const ConvGeometry& g = blocking.geometry;
  const bool one_unit = plan.scope() == Scope::kBatch;
  const Blocking unit = one_unit ? blocking : plan.blocking(1, g.in_h, g.in_w);
  for (int64_t n = 0; n < (one_unit ? 1 : g.batch); ++n) {
    run(CodedByteEnds(plan, unit, workspace, x + n * g.in_pixels() * g.in_channels,
                      y + n * g.out_pixels() * g.out_channels),
        nullptr, unit, workspace);
  }
  count_vectors(workspace.statistics, blocking);
}

}  // namespace reuse
