// Operator Hash: codes of all neuron vectors.
#include <algorithm>

#include "heuristics.h"
#include "simd/kernels.h"
#include "tile_hasher.h"

namespace reuse {

TileHasher::TileHasher(Allocator& allocator, const Blocking& blocking, const HashAttributes& attributes,
                       const HashParameters& parameters, const float* x, int64_t block)
    : blocking_(blocking),
      attributes_(attributes),
      parameters_(parameters),
      x_(x),
      block_(block),
      values_(allocator, static_cast<size_t>(blocking.sub_vector_length() * kTileVectors)),
      scratch_(allocator, static_cast<size_t>(attributes.family->scratch_floats(blocking.sub_vector_length(),
                                                                                attributes.num_hashes))) {}

Tile TileHasher::hash(int64_t first, int64_t count, int64_t* codes, uint8_t* finite) {
  const Tile tile = load_tile(blocking_, x_, block_, first, count, values_.data());
  attributes_.family->codes(tile, block_, blocking_.sub_vector_length(), attributes_.num_hashes, parameters_,
                            scratch_.data(), codes);
  if (finite != nullptr) simd::kernels().all_finite(tile.values, tile.stride, tile.length, tile.count, finite);
  return tile;
}

void hash_by_stretches(Context& context, const Blocking& blocking, const HashAttributes& attributes,
                       const HashParameters& parameters, const float* x, int64_t* codes, uint8_t* finite) {
  const int64_t per_task = task_vectors(blocking.vectors);
  const int64_t tasks_per_block = (blocking.vectors + per_task - 1) / per_task;
  context.parallel.run(tasks_per_block * blocking.num_blocks(), [&](int64_t task) {
    const int64_t block = task / tasks_per_block, begin = task % tasks_per_block * per_task;
    const int64_t end = std::min(begin + per_task, blocking.vectors), offset = block * blocking.vectors;
    TileHasher hasher(context.allocator, blocking, attributes, parameters, x, block);
    for (int64_t first = begin; first < end; first += kTileVectors) {
      hasher.hash(first, std::min(kTileVectors, end - first), codes + offset + first,
                  finite == nullptr ? nullptr : finite + offset + first);
    }
  });
}

void hash(Context& context, const Blocking& blocking, const HashAttributes& attributes,
          const HashParameters& parameters, const float* x, int64_t* codes) {
  hash_by_stretches(context, blocking, attributes, parameters, x, codes, nullptr);
}

}  // namespace reuse
