// Operator Gather: sums the table rows of each output pixel's neuron vectors.
#include "gather.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "heuristics.h"
#include "pieces.h"
#include "pixel_tiles.h"
#include "stopwatch.h"

namespace reuse {

simd::TapRow tap_row(const Blocking& blocking, int64_t image, int64_t row, int64_t column, int64_t columns) {
  const ConvGeometry& g = blocking.geometry;
  const ConvAttributes& a = g.attributes;
  if (blocking.layout() == Layout::kPatch) {
    return {image * g.out_pixels(), g.out_h, g.out_w, 1, 1, 1, 1, 1, row, column, columns};
  }
  return {image * g.in_pixels(),
          g.in_h,
          g.in_w,
          a.kernel_h,
          a.kernel_w,
          a.dilation_h,
          a.dilation_w,
          a.stride_w,
          row * a.stride_h - a.pad_top,
          column * a.stride_w - a.pad_left,
          columns};
}

namespace {

void check_ids(const int32_t* ids, int64_t count, int64_t capacity) {
  for (int64_t i = 0; i < count; ++i) {
    if (ids[i] < 0 || ids[i] >= capacity) {
      throw std::out_of_range("ids hold " + std::to_string(ids[i]) + ", but the table has " + std::to_string(capacity) +
                              " rows per block");
    }
  }
}

}  // namespace

GatherAttributes GatherAttributes::of(float alpha, float min, float max) {
  if (std::isnan(alpha) || std::isnan(min) || std::isnan(max)) {
    throw std::invalid_argument("alpha, min and max are numbers, but one of them is NaN");
  }
  const bool clips = min != -std::numeric_limits<float>::infinity() || max != std::numeric_limits<float>::infinity();
  if (alpha != 1.0f) {
    if (clips) throw std::invalid_argument("alpha and min or max exclude each other");
    return {Activation::kLeakyRelu, {alpha}};
  }
  if (!clips) return {};
  if (min == 0.0f && max == std::numeric_limits<float>::infinity()) return {Activation::kRelu, {}};
  return {Activation::kClip, {min, max}};
}

namespace {

// Where a tile of pixels goes, from pixel `pixel` of an image on.
simd::OutputTile output_tile(const ConvGeometry& g, const GatherAttributes& attributes, const OutputChannels& output,
                             int64_t image, int64_t pixel) {
  const std::vector<float>& params = attributes.activation_params;
  const bool pixel_major = g.attributes.output_order == DataOrder::kNhwc;
  return {pixel_major ? output.y + (image * g.out_pixels() + pixel) * g.out_channels + output.first
                      : output.y + (image * g.out_channels + output.first) * g.out_pixels() + pixel,
          pixel_major ? 1 : g.out_pixels(),
          output.count,
          output.bias == nullptr ? nullptr : output.bias + output.first,
          attributes.activation,
          params.empty() ? 0.0f : params[0],
          params.size() < 2 ? 0.0f : params[1],
          pixel_major ? g.out_channels : 1};
}

}  // namespace

void write_tile(const ConvGeometry& g, const GatherAttributes& attributes, const OutputChannels& output,
                const PixelTile& tile, bool whole_rows, const simd::Sums& sums, int64_t row_stride) {
  const simd::Kernels& kernels = simd::kernels();
  const simd::OutputTile target = output_tile(g, attributes, output, tile.image, tile.row * g.out_w + tile.column);
  if (whole_rows) return kernels.write_output(sums, tile.rows * tile.columns, target);
  for (int64_t row = 0; row < tile.rows; ++row) {
    simd::OutputTile of_row = target;
    of_row.y += row * g.out_w * of_row.pixel_step;
    kernels.write_output({sums.values + row * row_stride, sums.stride, false}, tile.columns, of_row);
  }
}

namespace {

// Adds and writes one tile of pixels after the other.
class TileAdder {
 public:
  TileAdder(const Blocking& blocking, const GatherAttributes& attributes, const ScaledTables& tables,
            const SumsMemory& memory, const OutputChannels* output)
      : blocking_(blocking),
        attributes_(attributes),
        tables_(tables),
        memory_(memory),
        output_(output),
        tiles_(blocking.geometry) {}

  const PixelTiles& tiles() const { return tiles_; }

  // `own` holds the sums of a tile where no memory keeps them.
  void run(const PixelTile& tile, float* own) const {
    const ConvGeometry& g = blocking_.geometry;
    const simd::Kernels& kernels = simd::kernels();
    const bool kept = memory_.sums != nullptr;
    const int64_t index = tile.image * g.out_pixels() + tile.row * g.out_w + tile.column;
    float* first = kept ? memory_.sums + index * memory_.stride : own;
    const int64_t row_stride = (kept ? g.out_w : tile.columns) * memory_.stride;
    if (output_ != nullptr)
      fetch(tile, output_tile(g, attributes_, *output_, tile.image, tile.row * g.out_w + tile.column));
    for (int64_t row = 0; row < tile.rows; ++row) {
      const simd::TapRow taps = tap_row(blocking_, tile.image, tile.row + row, tile.column, tile.columns);
      const simd::Sums sums{first + row * row_stride, memory_.stride, memory_.fresh};
      if (tables_.scale == nullptr) {
        kernels.add_taps(tables_.tables, taps, sums);
      } else {
        simd::WordSums words = memory_.words;
        if (words.values != nullptr) words.values += (index + row * g.out_w) * simd::kWordSums;
        kernels.add_taps_int8(tables_.tables, taps, tables_.scale, words, sums);
      }
    }
    if (output_ == nullptr) return;
    write_tile(g, attributes_, *output_, tile, tiles_.whole_rows(), {first, memory_.stride, false}, row_stride);
  }

 private:
  // Fetches the lines of a pixel-major output while sums are formed: the processor does not foresee writes that skip
  // the other strips' channels.
  void fetch(const PixelTile& tile, const simd::OutputTile& target) const {
    constexpr int64_t kLineFloats = 16;
    if (target.pixel_step == 1) return;
    for (int64_t row = 0; row < tile.rows; ++row) {
      for (int64_t column = 0; column < tile.columns; ++column) {
        const float* pixel = target.y + (row * blocking_.geometry.out_w + column) * target.pixel_step;
        for (int64_t c = 0; c < target.channels; c += kLineFloats) __builtin_prefetch(pixel + c, 1);
      }
    }
  }

  const Blocking& blocking_;
  const GatherAttributes& attributes_;
  const ScaledTables& tables_;
  const SumsMemory& memory_;
  const OutputChannels* output_;
  PixelTiles tiles_;
};

// Writes the rows of a block's table that is all there is to sum.
void copy_rows(Workspace& workspace, const Blocking& blocking, const GatherAttributes& attributes,
               const simd::Tables& tables, const OutputChannels& output) {
  const ConvGeometry& g = blocking.geometry;
  const simd::BlockTable& table = tables.blocks[0];
  const int64_t per_image = (g.out_pixels() + kCopiedPixels - 1) / kCopiedPixels;
  workspace.parallel.run(g.batch * per_image, [&](int64_t task) {
    const int64_t image = task / per_image, first = task % per_image * kCopiedPixels;
    simd::kernels().write_rows(
        static_cast<const float*>(table.rows), tables.row_stride, table.ids + image * g.out_pixels() + first,
        std::min(kCopiedPixels, g.out_pixels() - first), output_tile(g, attributes, output, image, first));
  });
}

}  // namespace

bool rows_are_outputs(const Blocking& blocking) {
  const ConvGeometry& g = blocking.geometry;
  const ConvAttributes& a = g.attributes;
  const bool own_pixel = blocking.layout() == Layout::kPatch ||
                         (g.taps() == 1 && a.stride_h == 1 && a.stride_w == 1 && g.out_pixels() == g.in_pixels());
  return own_pixel && blocking.blocks_per_group == 1;
}

void add_tables(Workspace& workspace, const Blocking& blocking, const GatherAttributes& attributes,
                const ScaledTables& tables, const SumsMemory& memory, const OutputChannels* output) {
  // The last strip of channels of a table that is not padded must not be read in whole lanes.
  if (rows_are_outputs(blocking) && tables.scale == nullptr && tables.tables.channels % simd::kLanes == 0) {
    return copy_rows(workspace, blocking, attributes, tables.tables, *output);
  }
  const TileAdder adder(blocking, attributes, tables, memory, output);
  const PixelTiles& tiles = adder.tiles();
  const int64_t own_size = memory.sums == nullptr && output != nullptr ? tiles.most_pixels() * memory.stride : 0;
  for_pieces(workspace.parallel, tiles.count(), [&](int64_t begin, int64_t end) {
    Buffer<float> own(workspace, static_cast<size_t>(own_size));
    for (int64_t index = begin; index < end; ++index) adder.run(tiles[index], own.data());
  });
}

void gather(Workspace& workspace, const Blocking& blocking, const GatherAttributes& attributes, const float* table,
            int64_t capacity, const int32_t* ids, const float* bias, float* y) {
  Stopwatch watch(workspace.statistics.gather_ns);
  const ConvGeometry& g = blocking.geometry;
  const int64_t blocks = blocking.num_blocks(), width = blocking.table_width(), channels = g.group_out_channels();
  check_ids(ids, blocks * blocking.vectors, capacity);
  std::vector<simd::BlockTable> tables(static_cast<size_t>(blocking.blocks_per_group));
  for (int64_t group = 0; group < g.attributes.group; ++group) {
    for (int64_t start = 0; start < channels; start += kTileChannels) {
      const int64_t count = std::min(kTileChannels, channels - start);
      for (int64_t b = 0; b < blocking.blocks_per_group; ++b) {
        const int64_t block = group * blocking.blocks_per_group + b;
        tables[static_cast<size_t>(b)] = {ids + block * blocking.vectors, table + block * capacity * width + start};
      }
      const OutputChannels output{group * channels + start, count, bias, y};
      add_tables(workspace, blocking, attributes,
                 {{tables.data(), blocking.blocks_per_group, width, channels, count}, nullptr},
                 {nullptr, kTileChannels, true}, &output);
    }
  }
  workspace.statistics.blocks = blocks;
  workspace.statistics.rows = g.rows();
}

}  // namespace reuse
