// Hashing of vectors, tile by tile: what Hash and ReuseConv share.
#pragma once

#include "heuristics.h"
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

// Codes [B, V] of all vectors, and whether each is finite.
struct CodeMemory {
  CodeMemory(Arena& arena, const Blocking& blocking)
      : codes(arena.take<int64_t>(blocking.num_blocks() * blocking.vectors)),
        finite(arena.take<uint8_t>(blocking.num_blocks() * blocking.vectors)) {}
  int64_t* codes;
  uint8_t* finite;
};

// Whether there are enough blocks to share out, each hashed and numbered by one task; else, and in pixel-major inputs,
// whose blocks share cache lines, hashing is shared out by stretches of vectors.
bool hashes_by_block(const Blocking& blocking);

// Writes a tile's codes and, unless `finite` is null, whether each vector is finite.
void hash_tile(const Encoder& encoder, const Tile& tile, int64_t block, float* scratch, int64_t* codes,
               uint8_t* finite);

// Calls `body(block, begin, end)` in parallel for stretches of each block's vectors.
template <typename Body>
void for_stretches(Parallel& parallel, const Blocking& blocking, const Body& body) {
  const int64_t length = task_vectors(blocking.vectors), per_block = (blocking.vectors + length - 1) / length;
  parallel.run(blocking.num_blocks() * per_block, [&](int64_t task) {
    const int64_t begin = task % per_block * length;
    body(task / per_block, begin, std::min(begin + length, blocking.vectors));
  });
}

// Calls `body(memory, block, first, count)` in parallel for tiles of all blocks' vectors: tiles outside and blocks
// inside, so that lines of a pixel-major input are read once.
template <typename Body>
void for_pixel_tiles(Workspace& workspace, const Blocking& blocking, const Encoder& encoder, const Body& body) {
  const int64_t stretch = task_vectors(blocking.vectors);
  workspace.parallel.run((blocking.vectors + stretch - 1) / stretch, [&](int64_t task) {
    const Placed<TileMemory> memory(workspace, blocking.sub_vector_length(), encoder);
    const int64_t begin = task * stretch, end = std::min(begin + stretch, blocking.vectors);
    for_tiles(begin, end, [&](int64_t first, int64_t count) {
      for (int64_t block = 0; block < blocking.num_blocks(); ++block) body(*memory, block, first, count);
    });
  });
}

// Hashes all vectors, shared out by stretches of them: codes [B, V] and, unless `finite` is null, finite [B, V].
void hash_by_stretches(Workspace& workspace, const Blocking& blocking, const Encoder& encoder, const float* x,
                       int64_t* codes, uint8_t* finite);

}  // namespace reuse
