// Hashing of vectors, tile by tile: what Hash and ReuseConv share.
#pragma once

#include "reuse/arena.h"
#include "reuse/operators.h"
#include "tile.h"

namespace reuse {

// Memory for one tile, and for hashing it.
struct TileMemory {
  TileMemory(Arena& arena, int64_t length, const Encoder& encoder)
      : values(arena.take<float>(length * kTileVectors)), scratch(arena.take<float>(encoder.scratch_floats())) {}
  float* values;
  float* scratch;
};

// Writes a tile's codes and, unless `finite` is null, whether each vector is finite.
void hash_tile(const Encoder& encoder, const Tile& tile, int64_t block, float* scratch, int64_t* codes,
               uint8_t* finite);

// Hashes all vectors, shared out by stretches of them: codes [B, V] and, unless `finite` is null, finite [B, V].
void hash_by_stretches(Workspace& workspace, const Blocking& blocking, const Encoder& encoder, const float* x,
                       int64_t* codes, uint8_t* finite);

}  // namespace reuse
