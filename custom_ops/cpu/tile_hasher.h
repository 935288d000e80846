// Hashing of vectors, tile by tile: what Hash and ReuseConv share.
#pragma once

#include <memory>

#include "reuse/operators.h"
#include "reuse/runtime.h"
#include "tile.h"

namespace reuse {

// Hashes tiles of a block. `coder` is what the family has prepared for it, or null; it must outlive this.
class BlockHasher {
 public:
  BlockHasher(Allocator& allocator, const Blocking& blocking, const HashAttributes& attributes,
              const HashParameters& parameters, int64_t block, const TileCoder* coder);

  // Writes the tile's codes and, unless `finite` is null, whether each vector is finite.
  void hash(const Tile& tile, int64_t* codes, uint8_t* finite);

 private:
  const HashAttributes& attributes_;
  const HashParameters& parameters_;
  int64_t block_, length_;
  const TileCoder* coder_;
  Buffer<float> scratch_;
};

// Reads and hashes tiles of a block.
class TileHasher {
 public:
  TileHasher(Allocator& allocator, const Blocking& blocking, const HashAttributes& attributes,
             const HashParameters& parameters, const float* x, int64_t block, const TileCoder* coder);

  // The same for vectors first .. first+count-1.
  Tile hash(int64_t first, int64_t count, int64_t* codes, uint8_t* finite);

 private:
  const Blocking& blocking_;
  const float* x_;
  int64_t block_;
  BlockHasher hasher_;
  Buffer<float> values_;
};

// Returns what the family prepares to hash all vectors of a block in tiles, or null.
std::unique_ptr<TileCoder> make_tile_coder(Allocator& allocator, const Blocking& blocking,
                                           const HashAttributes& attributes, const HashParameters& parameters,
                                           int64_t block);

// Hashes all vectors, shared out by stretches of them: codes [B, V] and, unless `finite` is null, finite [B, V].
void hash_by_stretches(Context& context, const Blocking& blocking, const HashAttributes& attributes,
                       const HashParameters& parameters, const float* x, int64_t* codes, uint8_t* finite);

}  // namespace reuse
