// Operator Hash: codes of all neuron vectors.
#include <algorithm>
#include <stdexcept>
#include <string>

#include "heuristics.h"
#include "simd/kernels.h"
#include "stopwatch.h"
#include "tile_hasher.h"

namespace reuse {
namespace {

void hash_rows(const RowEncoder& encoder, const Rows& rows, int64_t block, int64_t* codes, uint8_t* finite) {
  if (finite != nullptr) simd::kernels().all_finite_rows(rows.values, rows.stride, rows.length, rows.count, finite);
  encoder.codes(rows, block, codes);
}

// Hashes a stretch of vectors of all blocks of a pixel-major input. They read the same cache lines, so tiles outside,
// blocks inside; vectors are hashed where they lie if that is faster.
void hash_pixels(Allocator& allocator, const Blocking& blocking, const Encoder& encoder, const float* x, int64_t begin,
                 int64_t end, int64_t* codes, uint8_t* finite) {
  const int64_t channels = blocking.geometry.in_channels, length = blocking.sub_vector_length();
  const Placed<TileMemory> memory(allocator, length, encoder);
  for (int64_t first = begin; first < end; first += kTileVectors) {
    const int64_t count = std::min(kTileVectors, end - first);
    // One pass in the order of memory, which also brings the pixels to the cache.
    const bool known = finite != nullptr && is_finite(x + first * channels, count * channels);
    for (int64_t b = 0; b < blocking.num_blocks(); ++b) {
      const int64_t offset = b * blocking.vectors + first;
      if (known) std::fill_n(finite + offset, count, uint8_t{1});
      uint8_t* unknown = known || finite == nullptr ? nullptr : finite + offset;
      // A short block's vectors count as padded with zeros, which do not lie there.
      if (encoder.by_rows() != nullptr && blocking.block_length(b) == length) {
        const Rows rows = rows_in_place(blocking, x, b, {0, length}, first, count);
        hash_rows(*encoder.by_rows(), rows, b, codes + offset, unknown);
      } else {
        const Tile tile = load_tile(blocking, x, b, first, count, memory->values);
        hash_tile(encoder, tile, b, memory->scratch, codes + offset, unknown);
      }
    }
  }
}

}  // namespace

int64_t HashAttributes::given_clusters() const {
  constexpr int64_t kMostHashes = 16;
  if (!family->is_lossless() && num_hashes >= 0 && num_hashes <= kMostHashes) return int64_t{1} << num_hashes;
  throw std::invalid_argument("clusters by code need a family of codes and at most " + std::to_string(kMostHashes) +
                              " hashes, not " + family->name() + " and " + std::to_string(num_hashes));
}

std::unique_ptr<Encoder> make_encoder(Allocator& allocator, const HashAttributes& attributes, int64_t num_blocks,
                                      int64_t length, const HashParameters& parameters,
                                      const HashParameterSizes& sizes) {
  const HashShape shape{num_blocks, length, attributes.num_hashes};
  attributes.family->check(sizes, shape);
  return attributes.family->encoder(allocator, parameters, shape);
}

bool hashes_by_block(const Blocking& blocking) {
  return blocking.num_blocks() >= kBlocksToShareOut && blocking.geometry.attributes.input_order == DataOrder::kNchw;
}

void hash_tile(const Encoder& encoder, const Tile& tile, int64_t block, float* scratch, int64_t* codes,
               uint8_t* finite) {
  const bool all_finite = encoder.codes(tile, block, scratch, codes);
  if (finite == nullptr) return;
  if (all_finite) {
    std::fill_n(finite, tile.count, uint8_t{1});
  } else {
    simd::kernels().all_finite(tile.values, tile.stride, tile.length, tile.count, finite);
  }
}

void hash_by_stretches(Workspace& workspace, const Blocking& blocking, const Encoder& encoder, const float* x,
                       int64_t* codes, uint8_t* finite) {
  if (blocking.geometry.attributes.input_order == DataOrder::kNhwc) {
    const int64_t per_task = task_vectors(blocking.vectors);
    workspace.parallel.run((blocking.vectors + per_task - 1) / per_task, [&](int64_t task) {
      const int64_t end = std::min((task + 1) * per_task, blocking.vectors);
      hash_pixels(workspace, blocking, encoder, x, task * per_task, end, codes, finite);
    });
    return;
  }
  for_stretches(workspace.parallel, blocking, [&](int64_t block, int64_t begin, int64_t end) {
    const Placed<TileMemory> memory(workspace, blocking.sub_vector_length(), encoder);
    for_tiles(begin, end, [&](int64_t first, int64_t count) {
      const int64_t offset = block * blocking.vectors + first;
      const Tile tile = load_tile(blocking, x, block, first, count, memory->values);
      hash_tile(encoder, tile, block, memory->scratch, codes + offset, finite == nullptr ? nullptr : finite + offset);
    });
  });
}

void hash(Workspace& workspace, const Blocking& blocking, const Encoder& encoder, const float* x, int64_t* codes) {
  Stopwatch watch(workspace.statistics.hash_ns);
  hash_by_stretches(workspace, blocking, encoder, x, codes, nullptr);
}

}  // namespace reuse
