// ReuseConv of scope static: vectors to codes, which are rows of tables that there are already, and sums of these rows.
// An incremental one goes on from the sums of its last run: it adds what the rows of other codes than before have more.
#include <algorithm>
#include <atomic>
#include <vector>

#include "heuristics.h"
#include "pieces.h"
#include "pixel_tiles.h"
#include "reuse/static_entries.h"
#include "simd/kernels.h"
#include "static_changes.h"
#include "static_ends.h"
#include "static_planes.h"
#include "static_steps.h"
#include "static_tables.h"
#include "stopwatch.h"
#include "tile_hasher.h"

namespace reuse {
namespace {

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
        steps_(blocking, tables_),
        wide_(tables_.block_bytes() / simd::kOffsetUnit > UINT16_MAX),
        is_int8_(tables_.are_int8()),
        changes_(state, workspace, planes_, pixels_, steps_, tables_.num_tiles(), wide_) {}

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
    const bool kept = changes_.sums_are_kept();
    Buffer<Offset> memory(workspace_, kept ? 0 : static_cast<size_t>(planes_.count() * planes_.size()));
    Offset* const offsets = kept ? static_cast<Offset*>(changes_.offsets()) : memory.data();
    bool all_finite = false;
    {
      Stopwatch watch(workspace_.statistics.hash_ns);
      planes_.fill_borders(workspace_.parallel, offset_of<Offset>(tables_.rows()), offsets);
      constexpr int64_t kMostBytes = 256;
      all_finite = tables_.rows() <= kMostBytes ? hash_vectors<uint8_t>(offsets) : hash_vectors<uint16_t>(offsets);
      if (kept) changes_.compare();
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
    if (kept) changes_.leave(workspace_.statistics);
    if (all_finite) return;
    Stopwatch watch(workspace_.statistics.gather_ns);
    ends_.mend(workspace_);
  }

  template <typename Offset>
  Offset offset_of(int64_t code) const {
    return static_cast<Offset>(code * (tables_.row_bytes() / simd::kOffsetUnit));
  }

  // Stage encode. Returns whether all vectors are finite.
  template <typename Code, typename Offset>
  bool hash_vectors(Offset* offsets) const {
    std::atomic<bool> all_finite{true};
    const Offset unit = offset_of<Offset>(1);
    const auto hash = [&](const TileMemory& memory, int64_t block, int64_t first, int64_t count) {
      Code codes[kTileVectors];
      if (!ends_.encode(block, first, count, memory, codes)) all_finite = false;
      planes_.place(block, first, count, codes, unit, offsets);
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

  // Goes through all steps for some tiles of pixels, whose sums wait from step to step.
  template <typename Offset>
  void add_pixels(int64_t begin, int64_t end, const Offset* offsets) {
    const int64_t channels = tables_.tile_channels(), first = pixels_.first_pixel(pixels_[begin]);
    const int64_t rows =
        (end == pixels_.count() ? blocking_.geometry.rows() : pixels_.first_pixel(pixels_[end])) - first;
    const bool kept = changes_.sums_are_kept();
    const bool one_step = steps_[0].last;
    const bool one_flush = steps_[0].flush.end == blocking_.blocks_per_group;
    const bool words_wait = is_int8_ && !one_step && !kept;
    Buffer<uint16_t> words(workspace_, static_cast<size_t>(words_wait ? rows * simd::kStaticChannels : 0));
    const bool float_sums_wait = !kept && (is_int8_ ? !one_flush : !one_step);
    Buffer<float> sums(workspace_, static_cast<size_t>(float_sums_wait ? rows * channels : 0));
    Buffer<uint8_t> own_tables(workspace_);
    for (int64_t s = 0; s < steps_.count(); ++s) {
      const StaticStep& step = steps_[s];
      const std::vector<simd::StaticBlock> blocks = tables_of(step, own_tables);
      Stopwatch watch(workspace_.statistics.gather_ns);
      const StaticStep* next = s + 1 < steps_.count() ? &steps_[s + 1] : nullptr;
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
            if (!changes_.are_known()) continue;
            of_image[b].before = changes_.last_offsets(block, tile.image);
            of_image[b].changed = changes_.marks(block, tile.image);
          }
          simd::StaticBlocks own{of_image.data(),
                                 static_cast<int64_t>(of_image.size()),
                                 tables_.tap_bytes(),
                                 sizeof(Offset) > sizeof(uint16_t),
                                 nullptr,
                                 0,
                                 {}};
          if (next != nullptr) fetch_share(*next, t, count, own);
          if (kept) {
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
  std::vector<simd::StaticBlock> tables_of(const StaticStep& step, Buffer<uint8_t>& memory) const {
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
  void fetch_share(const StaticStep& next, int64_t index, int64_t count, simd::StaticBlocks& blocks) const {
    const uint8_t* kept = tables_.kept(next.blocks.begin, next.tile);
    if (kept == nullptr) return;
    const int64_t lines = (next.blocks.end - next.blocks.begin) * tables_.block_bytes() / kLineBytes;
    const int64_t first = lines * index / count;
    blocks.next_tables = kept + first * kLineBytes;
    blocks.next_lines = lines * (index + 1) / count - first;
  }

  int64_t first_channel(const StaticStep& step) const {
    return step.group * blocking_.geometry.group_out_channels() + step.tile * tables_.tile_channels();
  }
  simd::FetchedPlanes lines_of(const StaticStep& step, const PixelTile& tile) const {
    return ends_.lines(first_channel(step), tables_.tile_size(step.tile), tile, pixels_.whole_rows());
  }
  void write(const StaticStep& step, const PixelTile& tile, const simd::Sums& sums, int64_t row_sums) const {
    ends_.write(first_channel(step), tables_.tile_size(step.tile), tile, pixels_.whole_rows(), sums, row_sums);
  }

  // Sums that wait from step to step: [pixels, channels], from pixel `first` on.
  struct Waiting {
    uint16_t* words;
    float* sums;
    int64_t first;
  };

  // Stage assemble for a tile of pixels. `own_sums` holds them where none wait.
  void add_tile(const StaticStep& step, const simd::StaticBlocks& blocks, const PixelTile& tile, const Waiting& waiting,
                float* own_sums) const {
    const ConvGeometry& g = blocking_.geometry;
    const bool wait = waiting.sums != nullptr;
    const int64_t channels = tables_.tile_channels(), index = pixels_.first_pixel(tile) - waiting.first;
    float* const sums = wait ? waiting.sums + index * channels : own_sums;
    const int64_t row_sums = (wait ? g.out_w : tile.columns) * channels;
    const float* scale = step.last ? tables_.scale(step.group, step.tile) : nullptr;
    const bool fresh = step.flush.begin == step.group * blocking_.blocks_per_group;
    simd::StaticBlocks own = blocks;
    if (step.last) own.output = lines_of(step, tile);
    const simd::StaticPixels pixels = planes_.pixels(tile);
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
    if (!step.last) return;
    write(step, tile, {sums, channels, false}, row_sums);
  }

  // The same where sums are kept: pixel tile `index` goes on from those of the last run.
  void add_to_last(const StaticStep& step, const simd::StaticBlocks& blocks, int64_t index, float* own_sums) const {
    constexpr int64_t kChannels = simd::kStaticChannels;
    const PixelTile tile = pixels_[index];
    simd::StaticBlocks own = blocks;
    if (step.last) own.output = lines_of(step, tile);
    const int64_t row_sums = tile.columns * kChannels;
    changes_.for_parts(index, [&](const PixelTile& part, KeptSums how) {
      float* sums = own_sums + (part.column - tile.column) * kChannels;
      add_to_last(step, own, part, how, {sums, kChannels, row_sums, true, nullptr});
      own.next_lines = own.output.lines = 0;  // once is enough
    });
    if (step.last) write(step, tile, {own_sums, kChannels, false}, row_sums);
  }

  void add_to_last(const StaticStep& step, const simd::StaticBlocks& blocks, const PixelTile& part, KeptSums how,
                   simd::StaticSums sums) const {
    const simd::Kernels& kernels = simd::kernels();
    const simd::StaticPixels pixels = planes_.pixels(part);
    const int64_t row_stride = blocking_.geometry.out_w * simd::kStaticChannels, flushes = steps_.num_flushes();
    const int64_t flush = (step.flush.begin - step.group * blocking_.blocks_per_group) / steps_.flush_blocks();
    simd::StaticWords words{changes_.words(step, flush, part),
                            row_stride,
                            sums_to(step.blocks.end, step.flush),
                            step.blocks.begin == step.flush.begin,
                            step.last && flushes == 1,
                            true};
    if (how == KeptSums::kAreMadeAnew) {
      sums.scale = tables_.scale(step.group, step.tile);
      kernels.add_static_int8(blocks, pixels, words, sums);
      if (words.finish) return;
    }
    if (how == KeptSums::kAreUpdated) kernels.update_static_int8(blocks, pixels, changes_.row_words(), words);
    if (!step.last) return;
    for (int64_t f = 0; f < flushes; ++f) {
      const int64_t first = step.group * blocking_.blocks_per_group + f * steps_.flush_blocks();
      words.fresh = false;
      words.values = changes_.words(step, f, part);
      words.sums = sums_to(std::min(first + steps_.flush_blocks(), step.blocks.end), {first, 0});
      sums.fresh = f == 0;
      sums.scale = f + 1 < flushes ? nullptr : tables_.scale(step.group, step.tile);
      kernels.finish_static_int8(blocks.output, pixels, words, sums);
    }
  }

  // The sums of neighbouring taps of a flush's blocks before `end`.
  int64_t sums_to(int64_t end, const BlockRange& flush) const { return (end - flush.begin) * tap_sums(blocking_); }

  Ends& ends_;
  const typename Ends::Tables& tables_;
  const Blocking& blocking_;
  Workspace& workspace_;
  const StaticPlanes planes_;
  const PixelTiles pixels_;
  const StaticSteps steps_;
  const bool wide_, is_int8_;
  StaticChanges changes_;
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
