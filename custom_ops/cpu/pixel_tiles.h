// Cutting the output into tiles of pixels whose sums stay in the L1 cache.
#pragma once

#include <algorithm>
#include <cstdint>

#include "heuristics.h"
#include "reuse/geometry.h"

namespace reuse {

// A rectangle of one image's output.
struct PixelTile {
  int64_t image, row, rows, column, columns;
};

class PixelTiles {
 public:
  // Tiles have a multiple of `row_unit` rows, if the image has as many. Rows of channels' planes are cut at that width.
  explicit PixelTiles(const ConvGeometry& g, int64_t row_unit = 1, int64_t cut_columns = kTileColumns) : geometry_(g) {
    if (g.out_pixels() == 0) return;
    // Whole rows, whose pixels are neighbours in a channel's plane, unless they are long.
    if (g.attributes.output_order == DataOrder::kNhwc) {
      columns_ = std::min(g.out_w, kTileColumnsPixelMajor);
    } else {
      columns_ = g.out_w < 2 * cut_columns ? g.out_w : cut_columns;
    }
    const int64_t units = std::max<int64_t>(1, (kTilePixels / columns_ + row_unit - 1) / row_unit);
    rows_ = std::min(units * row_unit, g.out_h);
    vertical_ = (g.out_h + rows_ - 1) / rows_;
    horizontal_ = (g.out_w + columns_ - 1) / columns_;
  }

  int64_t count() const { return geometry_.batch * vertical_ * horizontal_; }
  int64_t across() const { return horizontal_; }  // tiles side by side
  bool whole_rows() const { return horizontal_ == 1; }
  int64_t most_columns() const { return columns_; }
  int64_t most_pixels() const { return rows_ * columns_; }

  PixelTile operator[](int64_t index) const {
    PixelTile tile;
    tile.column = index % horizontal_ * columns_;
    tile.columns = std::min(columns_, geometry_.out_w - tile.column);
    tile.row = index / horizontal_ % vertical_ * rows_;
    tile.rows = std::min(rows_, geometry_.out_h - tile.row);
    tile.image = index / (horizontal_ * vertical_);
    return tile;
  }

  // The number of a tile's first output pixel.
  int64_t first_pixel(const PixelTile& tile) const {
    return (tile.image * geometry_.out_h + tile.row) * geometry_.out_w + tile.column;
  }

 private:
  const ConvGeometry& geometry_;
  int64_t rows_ = 0, columns_ = 0, vertical_ = 0, horizontal_ = 0;
};

}  // namespace reuse
