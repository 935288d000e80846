// Operator Hash: codes of all neuron vectors.
#include <algorithm>
#include <memory>
#include <vector>

#include "heuristics.h"
#include "simd/kernels.h"
#include "tile_hasher.h"

namespace reuse {

BlockHasher::BlockHasher(Allocator& allocator, const Blocking& blocking, const HashAttributes& attributes,
                         const HashParameters& parameters, int64_t block, const TileCoder* coder)
    : attributes_(attributes),
      parameters_(parameters),
      block_(block),
      length_(blocking.sub_vector_length()),
      coder_(coder),
      scratch_(allocator, static_cast<size_t>(attributes.family->scratch_floats(length_, attributes.num_hashes))) {}

void BlockHasher::hash(const Tile& tile, int64_t* codes, uint8_t* finite) {
  if (coder_ != nullptr) {
    coder_->codes(tile, scratch_.data(), codes);
  } else {
    attributes_.family->codes(tile, block_, length_, attributes_.num_hashes, parameters_, scratch_.data(), codes);
  }
  if (finite != nullptr) simd::kernels().all_finite(tile.values, tile.stride, tile.length, tile.count, finite);
}

TileHasher::TileHasher(Allocator& allocator, const Blocking& blocking, const HashAttributes& attributes,
                       const HashParameters& parameters, const float* x, int64_t block, const TileCoder* coder)
    : blocking_(blocking),
      x_(x),
      block_(block),
      hasher_(allocator, blocking, attributes, parameters, block, coder),
      values_(allocator, static_cast<size_t>(blocking.sub_vector_length() * kTileVectors)) {}

Tile TileHasher::hash(int64_t first, int64_t count, int64_t* codes, uint8_t* finite) {
  const Tile tile = load_tile(blocking_, x_, block_, first, count, values_.data());
  hasher_.hash(tile, codes, finite);
  return tile;
}

std::unique_ptr<TileCoder> make_tile_coder(Allocator& allocator, const Blocking& blocking,
                                           const HashAttributes& attributes, const HashParameters& parameters,
                                           int64_t block) {
  return attributes.family->tile_coder(allocator, block, blocking.sub_vector_length(), attributes.num_hashes,
                                       parameters, blocking.vectors);
}

namespace {

// Hashes blocks of a pixel-major input: where they lie if the family has something for rows, else in tiles.
class PixelHasher {
 public:
  PixelHasher(Context& context, const Blocking& blocking, const HashAttributes& attributes,
              const HashParameters& parameters, const float* x)
      : blocking_(blocking), attributes_(attributes), parameters_(parameters), x_(x) {
    by_rows_.resize(static_cast<size_t>(blocking.num_blocks()));
    coders_.resize(by_rows_.size());
    context.parallel.run(blocking.num_blocks(), [&](int64_t b) {
      // A short block's vectors count as padded with zeros, which do not lie there.
      if (blocking.block_length(b) == blocking.sub_vector_length()) {
        by_rows_[static_cast<size_t>(b)] =
            attributes.family->row_hasher(context.allocator, b, attributes.num_hashes, parameters, blocking.vectors);
      }
      if (by_rows_[static_cast<size_t>(b)] == nullptr) {
        coders_[static_cast<size_t>(b)] = make_tile_coder(context.allocator, blocking, attributes, parameters, b);
      }
    });
  }

  // Hashes a stretch of vectors of all blocks. They read the same cache lines, so tiles outside, blocks inside.
  void hash(Allocator& allocator, int64_t begin, int64_t end, int64_t* codes, uint8_t* finite) const {
    std::vector<std::unique_ptr<TileHasher>> by_tiles;
    for (int64_t b = 0; b < blocking_.num_blocks(); ++b) {
      const bool rows = by_rows_[static_cast<size_t>(b)] != nullptr;
      by_tiles.push_back(rows ? nullptr
                              : std::make_unique<TileHasher>(allocator, blocking_, attributes_, parameters_, x_, b,
                                                             coders_[static_cast<size_t>(b)].get()));
    }
    const int64_t channels = blocking_.geometry.in_channels;
    for (int64_t first = begin; first < end; first += kTileVectors) {
      const int64_t count = std::min(kTileVectors, end - first);
      // One pass in the order of memory, which also brings the pixels to the cache.
      const bool known = finite != nullptr && is_finite(x_ + first * channels, count * channels);
      for (int64_t b = 0; b < blocking_.num_blocks(); ++b) {
        const int64_t offset = b * blocking_.vectors + first;
        if (known) std::fill_n(finite + offset, count, uint8_t{1});
        uint8_t* unknown = known || finite == nullptr ? nullptr : finite + offset;
        if (TileHasher* hasher = by_tiles[static_cast<size_t>(b)].get()) {
          hasher->hash(first, count, codes + offset, unknown);
        } else {
          hash_rows(b, first, count, codes + offset, unknown);
        }
      }
    }
  }

 private:
  void hash_rows(int64_t block, int64_t first, int64_t count, int64_t* codes, uint8_t* finite) const {
    const Rows rows = rows_in_place(blocking_, x_, block, {0, blocking_.sub_vector_length()}, first, count);
    if (finite != nullptr) simd::kernels().all_finite_rows(rows.values, rows.stride, rows.length, count, finite);
    by_rows_[static_cast<size_t>(block)]->codes(rows, codes);
  }

  const Blocking& blocking_;
  const HashAttributes& attributes_;
  const HashParameters& parameters_;
  const float* x_;
  std::vector<std::unique_ptr<RowHasher>> by_rows_;  // of each block, or null
  std::vector<std::unique_ptr<TileCoder>> coders_;   // the same
};

}  // namespace

void hash_by_stretches(Context& context, const Blocking& blocking, const HashAttributes& attributes,
                       const HashParameters& parameters, const float* x, int64_t* codes, uint8_t* finite) {
  const int64_t per_task = task_vectors(blocking.vectors);
  const int64_t tasks_per_block = (blocking.vectors + per_task - 1) / per_task;
  if (blocking.geometry.attributes.input_order == DataOrder::kNhwc) {
    const PixelHasher hasher(context, blocking, attributes, parameters, x);
    context.parallel.run(tasks_per_block, [&](int64_t task) {
      const int64_t end = std::min((task + 1) * per_task, blocking.vectors);
      hasher.hash(context.allocator, task * per_task, end, codes, finite);
    });
    return;
  }
  std::vector<std::unique_ptr<TileCoder>> coders(static_cast<size_t>(blocking.num_blocks()));
  context.parallel.run(blocking.num_blocks(), [&](int64_t block) {
    coders[static_cast<size_t>(block)] = make_tile_coder(context.allocator, blocking, attributes, parameters, block);
  });
  context.parallel.run(tasks_per_block * blocking.num_blocks(), [&](int64_t task) {
    const int64_t block = task / tasks_per_block, begin = task % tasks_per_block * per_task;
    const int64_t end = std::min(begin + per_task, blocking.vectors), offset = block * blocking.vectors;
    TileHasher hasher(context.allocator, blocking, attributes, parameters, x, block,
                      coders[static_cast<size_t>(block)].get());
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
