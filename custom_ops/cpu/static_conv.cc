// ReuseConv of scope static: vectors to codes, which are rows of tables that there are already, and sums of these rows.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <stdexcept>

#include "gather.h"
#include "heuristics.h"
#include "pixel_tiles.h"
#include "reuse/static_entries.h"
#include "simd/kernels.h"
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

class StaticConv {
 public:
  StaticConv(const StaticTables& tables, const GatherAttributes& attributes, const Blocking& blocking,
             Workspace& workspace, const float* bias, float* y)
      : tables_(tables),
        attributes_(attributes),
        blocking_(blocking),
        workspace_(workspace),
        planes_(blocking),
        pixels_(blocking.geometry, kStaticRows, kStaticColumns),
        wide_(tables.block_bytes() / simd::kOffsetUnit > UINT16_MAX),
        is_int8_(tables.operands().table == TableType::kInt8),
        bias_(bias),
        y_(y) {
    cut();
  }

  void run(const Encoder& encoder, const float* x) {
    if (wide_) {
      run_with<uint32_t>(encoder, x);
    } else {
      run_with<uint16_t>(encoder, x);
    }
  }

 private:
  template <typename Offset>
  void run_with(const Encoder& encoder, const float* x) {
    Buffer<Offset> offsets(workspace_, static_cast<size_t>(blocking_.num_blocks() * planes_.batch * planes_.size()));
    bool all_finite = false;
    {
      Stopwatch watch(workspace_.statistics.hash_ns);
      fill_borders(offsets.data());
      constexpr int64_t kMostBytes = 256;
      all_finite = tables_.operands().clusters <= kMostBytes ? hash_vectors<uint8_t>(encoder, x, offsets.data())
                                                             : hash_vectors<uint16_t>(encoder, x, offsets.data());
    }
    // Tables that are not kept are made once for all pixels. A part has all tiles that are side by side, so that its
    // pixels follow one another.
    const int64_t across = pixels_.across(), bands = pixels_.count() / across;
    const int64_t fitting = std::max<int64_t>(1, kWaitingPixels / (pixels_.most_pixels() * across));
    const int64_t at_once = tables_.operands().keep ? fitting : bands;
    const int64_t parts = (bands + at_once - 1) / at_once;
    for (int64_t part = 0; part < parts; ++part) {
      add_pixels(bands * part / parts * across, bands * (part + 1) / parts * across, offsets.data());
    }
    if (all_finite) return;
    Stopwatch watch(workspace_.statistics.gather_ns);
    count_own(x);
    mend(x);
  }

  template <typename Offset>
  void fill_borders(Offset* offsets) const {
    const Offset zeros = offset_of<Offset>(tables_.operands().clusters);
    workspace_.parallel.run(blocking_.num_blocks() * planes_.batch, [&](int64_t plane) {
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
  bool hash_vectors(const Encoder& encoder, const float* x, Offset* offsets) const {
    std::atomic<bool> all_finite{true};
    for_stretches(workspace_.parallel, blocking_, [&](int64_t block, int64_t begin, int64_t end) {
      const Placed<TileMemory> memory(workspace_, blocking_.sub_vector_length(), encoder);
      Code codes[kTileVectors];
      for_tiles(begin, end, [&](int64_t first, int64_t count) {
        const Tile tile = view_tile(blocking_, x, block, first, count, memory->values);
        if (!encoder.narrow_codes(tile, block, memory->scratch, codes)) all_finite = false;
        place(block, first, count, codes, offsets);
      });
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

  void cut() {
    const int64_t per_group = blocking_.blocks_per_group, bytes = tables_.block_bytes();
    const int64_t set_bytes = choose_static_tables(blocking_.geometry.rows(), per_group * bytes);
    const int64_t at_once = std::max<int64_t>(1, set_bytes / bytes);
    const int64_t most = is_int8_ ? kMostTapSums / tap_sums(blocking_) : per_group;  // blocks whose sums an int16 holds
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
    Buffer<uint16_t> words(workspace_, static_cast<size_t>(is_int8_ && !one_step ? rows * simd::kStaticChannels : 0));
    const bool float_sums_wait = is_int8_ ? !one_flush : !one_step;
    Buffer<float> sums(workspace_, static_cast<size_t>(float_sums_wait ? rows * channels : 0));
    Buffer<uint8_t> own_tables(workspace_);
    for (size_t s = 0; s < steps_.size(); ++s) {
      const Step& step = steps_[s];
      const std::vector<simd::StaticBlock> blocks = tables_of(step, own_tables);
      Stopwatch watch(workspace_.statistics.gather_ns);
      const Step* next = s + 1 < steps_.size() ? &steps_[s + 1] : nullptr;
      const int64_t count = end - begin, per_task = pieces_per_task(count);
      workspace_.parallel.run((count + per_task - 1) / per_task, [&](int64_t task) {
        // On the stack: tasks are many and short.
        alignas(64) float own_sums[kMostStaticPixels * simd::kStaticChannels];
        std::vector<simd::StaticBlock> of_image = blocks;
        for (int64_t t = task * per_task; t < std::min(count, (task + 1) * per_task); ++t) {
          const PixelTile tile = pixels_[begin + t];
          for (size_t b = 0; b < blocks.size(); ++b) {
            of_image[b].offsets = offsets + planes_.start(step.blocks.begin + static_cast<int64_t>(b), tile.image);
          }
          simd::StaticBlocks own{of_image.data(),
                                 static_cast<int64_t>(of_image.size()),
                                 tables_.tap_bytes(),
                                 sizeof(Offset) > sizeof(uint16_t),
                                 nullptr,
                                 0,
                                 {}};
          if (next != nullptr) fetch_share(*next, t, count, own);
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

  // Where the tile's sums go in the channels' planes.
  simd::FetchedPlanes lines_of(const OutputChannels& output, const PixelTile& tile) const {
    const ConvGeometry& g = blocking_.geometry;
    const int64_t row_bytes = g.out_w * static_cast<int64_t>(sizeof(float));
    const int64_t bytes = pixels_.whole_rows() ? tile.rows * row_bytes : tile.columns * int64_t{sizeof(float)};
    int line_bits = 0, row_bits = 0;
    while ((kLineBytes << line_bits) < bytes) ++line_bits;
    while (!pixels_.whole_rows() && (1 << row_bits) < tile.rows) ++row_bits;
    const int64_t pixel = tile.row * g.out_w + tile.column;
    const float* first = y_ + (tile.image * g.out_channels + output.first) * g.out_pixels() + pixel;
    return {reinterpret_cast<const uint8_t*>(first),
            output.count << (line_bits + row_bits),
            line_bits,
            row_bits,
            row_bytes,
            g.out_h * row_bytes};
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
    const bool in_planes = g.attributes.output_order == DataOrder::kNchw;
    const int64_t channels = tables_.tile_channels(), index = first_pixel(tile) - waiting.first;
    float* const sums = wait ? waiting.sums + index * channels : own_sums;
    const int64_t row_sums = (wait ? g.out_w : tile.columns) * channels;
    const float* scale = done ? tables_.scale(step.group, step.tile) : nullptr;
    const bool fresh = step.flush.begin == step.group * blocking_.blocks_per_group;
    const OutputChannels output{step.group * g.group_out_channels() + step.tile * channels,
                                tables_.tile_size(step.tile), bias_, y_};
    simd::StaticBlocks own = blocks;
    if (done && in_planes) own.output = lines_of(output, tile);
    const simd::StaticPixels pixels = pixels_of(tile);
    if (is_int8_) {
      const simd::StaticWords words{waiting.words == nullptr ? nullptr : waiting.words + index * simd::kStaticChannels,
                                    g.out_w * simd::kStaticChannels,
                                    (step.blocks.end - step.flush.begin) * tap_sums(blocking_),
                                    step.blocks.begin == step.flush.begin, step.finishes()};
      simd::kernels().add_static_int8(own, pixels, words, {sums, channels, row_sums, fresh, scale});
    } else {
      const bool first_blocks = step.blocks.begin == step.flush.begin;  // all of a group are summed without a flush
      simd::kernels().add_static_float(own, pixels, channels, {sums, channels, row_sums, first_blocks, nullptr});
    }
    if (!done) return;
    write_tile(g, attributes_, output, tile, pixels_.whole_rows(), {sums, channels, false}, row_sums);
  }

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

  // Counts the vectors that are clusters of their own.
  void count_own(const float* x) const {
    std::atomic<int64_t> own{0};
    workspace_.parallel.run(blocking_.num_blocks(), [&](int64_t block) {
      Buffer<float> values(workspace_, static_cast<size_t>(blocking_.sub_vector_length() * kTileVectors));
      uint8_t finite[kTileVectors];
      for_tiles(0, blocking_.vectors, [&](int64_t first, int64_t count) {
        const Tile tile = load_tile(blocking_, x, block, first, count, values.data());
        simd::kernels().all_finite(tile.values, tile.stride, tile.length, count, finite);
        own += std::count(finite, finite + count, uint8_t{0});
      });
    });
    workspace_.statistics.clusters += own;
    workspace_.statistics.guarded += own;
  }

  // Gives the outputs that read a vector with a NaN or an infinity, which are never finite, what these vectors' dense
  // products make of them. It hardly ever happens, so it looks for them anew.
  void mend(const float* x) const {
    const ConvGeometry& g = blocking_.geometry;
    workspace_.parallel.run(g.batch * g.out_h, [&](int64_t task) {
      std::vector<float> sums(static_cast<size_t>(g.group_out_channels()));
      for (int64_t column = 0; column < g.out_w; ++column) {
        for (int64_t group = 0; group < g.attributes.group; ++group) {
          const Window window{task / g.out_h, task % g.out_h, column, group};
          if (add_dense(x, window, sums)) write_mended(window, sums);
        }
      }
    });
  }

  // What an output pixel of a group reads.
  struct Window {
    int64_t image, row, column, group;
  };

  // Sets `sums` to the dense products of the window's vectors that are not finite; returns whether there are any.
  bool add_dense(const float* x, const Window& window, std::vector<float>& sums) const {
    const ConvGeometry& g = blocking_.geometry;
    const int64_t channels = g.group_in_channels(), per_group = blocking_.blocks_per_group;
    const bool patch = blocking_.layout() == Layout::kPatch;
    std::vector<float> vector(static_cast<size_t>(blocking_.sub_vector_length()));
    bool any = false;
    for (int64_t block = window.group * per_group; block < (window.group + 1) * per_group; ++block) {
      const int64_t start = blocking_.block_start(block), length = blocking_.block_length(block);
      for (int64_t t = 0; t < blocking_.taps_per_block(); ++t) {
        const auto tap_of = [&](int64_t l) { return patch ? (start + l) / channels : t; };
        const auto channel_of = [&](int64_t l) { return patch ? (start + l) % channels : start + l; };
        bool finite = true;
        for (int64_t l = 0; l < length; ++l) {
          vector[static_cast<size_t>(l)] = input(x, window, channel_of(l), tap_of(l));
          finite = finite && std::isfinite(vector[static_cast<size_t>(l)]);
        }
        if (finite) continue;
        if (!any) std::fill(sums.begin(), sums.end(), 0.0f);
        any = true;
        for (int64_t l = 0; l < length; ++l) {
          const float* weights = tables_.operands().weights.data() + channel_of(l) * g.taps() + tap_of(l);
          for (int64_t m = 0; m < g.group_out_channels(); ++m) {
            const int64_t out = window.group * g.group_out_channels() + m;
            sums[static_cast<size_t>(m)] += vector[static_cast<size_t>(l)] * weights[out * channels * g.taps()];
          }
        }
        // Then nothing changes any more, as is soon the case where all of the input is spoilt.
        if (std::all_of(sums.begin(), sums.end(), [](float sum) { return std::isnan(sum); })) return true;
      }
    }
    return any;
  }

  // The input of a channel of the window's group that a tap reads, or a zero around the image.
  float input(const float* x, const Window& window, int64_t channel, int64_t tap) const {
    const ConvGeometry& g = blocking_.geometry;
    const ConvAttributes& a = g.attributes;
    const int64_t row = window.row * a.stride_h - a.pad_top + tap / a.kernel_w * a.dilation_h;
    const int64_t column = window.column * a.stride_w - a.pad_left + tap % a.kernel_w * a.dilation_w;
    if (row < 0 || row >= g.in_h || column < 0 || column >= g.in_w) return 0.0f;
    const int64_t of_image = window.group * g.group_in_channels() + channel;
    if (a.input_order == DataOrder::kNhwc) {
      return x[((window.image * g.in_h + row) * g.in_w + column) * g.in_channels + of_image];
    }
    return x[((window.image * g.in_channels + of_image) * g.in_h + row) * g.in_w + column];
  }

  void write_mended(const Window& window, const std::vector<float>& sums) const {
    const ConvGeometry& g = blocking_.geometry;
    const PixelTile pixel{window.image, window.row, 1, window.column, 1};
    const int64_t channels = g.group_out_channels(),
                  padded = (channels + simd::kLanes - 1) / simd::kLanes * simd::kLanes;
    std::vector<float> whole_vectors(sums);
    whole_vectors.resize(static_cast<size_t>(padded), 0.0f);
    const OutputChannels output{window.group * channels, channels, bias_, y_};
    write_tile(g, attributes_, output, pixel, false, {whole_vectors.data(), padded, false}, padded);
  }

  static constexpr int64_t kLineBytes = 64;

  const StaticTables& tables_;
  const GatherAttributes& attributes_;
  const Blocking& blocking_;
  Workspace& workspace_;
  const Planes planes_;
  const PixelTiles pixels_;
  const bool wide_, is_int8_;
  const float* bias_;
  float* y_;
  std::vector<Step> steps_;
};

}  // namespace

void static_conv(const StaticTables& tables, const Encoder& encoder, const GatherAttributes& attributes,
                 const Blocking& blocking, Workspace& workspace, const float* bias, const float* x, float* y) {
  RunStatistics& statistics = workspace.statistics;
  count_vectors(statistics, blocking);
  statistics.clusters = blocking.num_blocks() * tables.operands().clusters;
  if (tables.operands().keep) statistics.table_bytes = tables.bytes();
  if (blocking.geometry.rows() == 0 || blocking.geometry.out_channels == 0) return;
  StaticConv(tables, attributes, blocking, workspace, bias, y).run(encoder, x);
}

}  // namespace reuse
