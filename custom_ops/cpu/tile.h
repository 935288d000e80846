// Reads neuron vectors out of an image tensor, a tile of them at a time.
#pragma once

#include <algorithm>
#include <cstdint>

#include "reuse/geometry.h"
#include "reuse/hash_family.h"

namespace reuse {

// Some of a block's elements.
struct Elements {
  int64_t begin, count;
};

// Calls `body(first, count)` for vectors begin ... end - 1, tile by tile.
template <typename Body>
void for_tiles(int64_t begin, int64_t end, const Body& body) {
  for (int64_t first = begin; first < end; first += kTileVectors) body(first, std::min(kTileVectors, end - first));
}

// Fills `values` [elements, kTileVectors] with vectors first .. first+count-1 of the block (element l of vector p
// at values[l * kTileVectors + p]), zeros where a window reaches into the padding.
Tile load_tile(const Blocking& blocking, const float* x, int64_t block, Elements elements, int64_t first, int64_t count,
               float* values);

// The same with all elements of the block.
Tile load_tile(const Blocking& blocking, const float* x, int64_t block, int64_t first, int64_t count, float* values);

// The same for vectors that are read once: they are not copied where the planes of channels have them side by side.
Tile view_tile(const Blocking& blocking, const float* x, int64_t block, int64_t first, int64_t count, float* values);

// The vectors where a pixel-major input has them, without copying.
Rows rows_in_place(const Blocking& blocking, const float* x, int64_t block, Elements elements, int64_t first,
                   int64_t count);

// Whether all values are finite.
bool is_finite(const float* values, int64_t count);

}  // namespace reuse
