// Where the taps of a convolution find the rows of static tables that they add: planes of the rows' offsets.
#pragma once

#include <algorithm>
#include <cstdint>

#include "pixel_tiles.h"
#include "reuse/geometry.h"
#include "reuse/runtime.h"
#include "simd/static_kernels.h"

namespace reuse {

// Planes of rows, one per block and image, that have a place for everything that a tap may read: each vector's row, and
// that of zeros around the image.
struct StaticPlanes {
  explicit StaticPlanes(const Blocking& blocking);

  int64_t count() const { return blocking.num_blocks() * batch; }
  int64_t size() const { return height * width; }
  int64_t start(int64_t block, int64_t image) const { return (block * batch + image) * size(); }

  // A tile of output pixels, and the places that they read.
  simd::StaticPixels pixels(const PixelTile& tile) const;

  // Writes the offset of the row of zeros to all places around the images.
  template <typename Offset>
  void fill_borders(Parallel& parallel, Offset zeros, Offset* offsets) const {
    parallel.run(count(), [&](int64_t plane) {
      Offset* row = offsets + plane * size();
      for (int64_t r = 0; r < height; ++r, row += width) {
        const bool inside = r >= top && r < top + inside_h;
        const int64_t before = inside ? left : width;
        std::fill(row, row + before, zeros);
        if (inside) std::fill(row + before + inside_w, row + width, zeros);
      }
    });
  }

  // Writes the offsets of vectors that are neighbours, which are multiples of `unit`, to their places.
  template <typename Code, typename Offset>
  void place(int64_t block, int64_t first, int64_t vectors, const Code* codes, Offset unit, Offset* offsets) const {
    const int64_t inside = inside_h * inside_w;
    for (int64_t done = 0; done < vectors;) {
      const int64_t image = (first + done) / inside, pixel = (first + done) % inside;
      const int64_t row = pixel / inside_w, column = pixel % inside_w;
      const int64_t run = std::min(vectors - done, inside_w - column);
      Offset* to = offsets + start(block, image) + (top + row) * width + left + column;
      for (int64_t p = 0; p < run; ++p) to[p] = static_cast<Offset>(*codes++ * unit);
      done += run;
    }
  }

  const Blocking& blocking;
  int64_t batch, height, width;
  int64_t top, left, inside_h, inside_w;  // where the image lies
};

}  // namespace reuse
