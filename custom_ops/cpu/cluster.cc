// Operator Cluster: numbers the clusters of each block in order of first appearance; and the same together with Hash.
#include <algorithm>
#include <memory>
#include <stdexcept>

#include "block_numbering.h"
#include "centroids.h"
#include "heuristics.h"
#include "pixel_clusters.h"
#include "reuse/operators.h"
#include "simd/kernels.h"
#include "stopwatch.h"
#include "tile.h"
#include "tile_hasher.h"
#include "window_clusters.h"

namespace reuse {
namespace {

// Numbers all blocks' clusters in parallel; `number(range, ids)` does it for some, `ids` being [B, V] of all blocks.
template <typename Number>
Clusters number_ranges(Context& context, const Blocking& blocking, int64_t together, const Number& number) {
  const int64_t blocks = blocking.num_blocks(), vectors = blocking.vectors;
  Clusters result{Buffer<int32_t>(context.allocator, static_cast<size_t>(blocks * vectors)), {}};
  result.blocks.reserve(static_cast<size_t>(blocks));
  std::vector<std::unique_ptr<BlockClusters>> done(static_cast<size_t>(blocks));
  if (vectors > 0) {
    context.parallel.run((blocks + together - 1) / together, [&](int64_t task) {
      const BlockRange range{task * together, std::min(blocks, (task + 1) * together)};
      std::vector<BlockClusters> found = number(range, result.ids.data());
      for (size_t i = 0; i < found.size(); ++i) {
        done[static_cast<size_t>(range.begin) + i] = std::make_unique<BlockClusters>(std::move(found[i]));
      }
    });
  }
  context.statistics.blocks = blocks;
  context.statistics.rows = blocking.geometry.rows();
  context.statistics.vectors = blocks * vectors;
  for (auto& clusters : done) {
    result.blocks.push_back(clusters ? std::move(*clusters) : BlockClusters(context.allocator));
    context.statistics.clusters += result.blocks.back().count;
    context.statistics.guarded += result.blocks.back().guarded;
  }
  return result;
}

// The same block by block: `number(block, ids)` gets the block's own ids.
template <typename Number>
Clusters number_blocks(Context& context, const Blocking& blocking, const Number& number) {
  return number_ranges(context, blocking, 1, [&](BlockRange range, int32_t* ids) {
    std::vector<BlockClusters> found;
    found.push_back(number(range.begin, ids + range.begin * blocking.vectors));
    return found;
  });
}

// What needs no look at vectors once they are numbered.
constexpr auto kNothing = [](int64_t, int64_t, int64_t) {};

// Hashes and numbers block by block, reading each vector once.
Clusters number_while_hashing(Context& context, const Blocking& blocking, const HashAttributes& hash_attributes,
                              const HashParameters& parameters, const ClusterAttributes& attributes, const float* x) {
  return number_blocks(context, blocking, [&](int64_t block, int32_t* ids) {
    const auto coder = make_tile_coder(context.allocator, blocking, hash_attributes, parameters, block);
    TileHasher hasher(context.allocator, blocking, hash_attributes, parameters, x, block, coder.get());
    int64_t codes[kTileVectors];
    uint8_t finite[kTileVectors];
    return number_block(
        context.allocator, blocking, attributes, block, ids,
        [&](int64_t first, int64_t count) {
          return CodedTile{hasher.hash(first, count, codes, finite), codes, finite};
        },
        kNothing);
  });
}

// Numbers vectors that are hashed already.
Clusters number_hashed(Context& context, const Blocking& blocking, const ClusterAttributes& attributes, const float* x,
                       const int64_t* codes, const uint8_t* finite) {
  return number_blocks(context, blocking, [&](int64_t block, int32_t* ids) {
    const bool read_values = attributes.verify || finite == nullptr;
    const int64_t offset = block * blocking.vectors;
    Buffer<float> values(context.allocator,
                         static_cast<size_t>(read_values ? blocking.sub_vector_length() * kTileVectors : 0));
    uint8_t own_finite[kTileVectors];
    return number_block(
        context.allocator, blocking, attributes, block, ids,
        [&](int64_t first, int64_t count) {
          CodedTile coded{Tile{nullptr, 0, 0, count}, codes + offset + first, own_finite};
          if (read_values) coded.tile = load_tile(blocking, x, block, first, count, values.data());
          if (finite != nullptr) {
            coded.finite = finite + offset + first;
          } else {
            simd::kernels().all_finite(coded.tile.values, coded.tile.stride, coded.tile.length, count, own_finite);
          }
          return coded;
        },
        kNothing);
  });
}

}  // namespace

Scope parse_scope(const std::string& name) {
  if (name == "batch") return Scope::kBatch;
  if (name == "image") return Scope::kImage;
  throw std::invalid_argument("scope is '" + name + "', must be batch or image");
}

Metric parse_metric(const std::string& name) {
  if (name == "euclidean") return Metric::kEuclidean;
  if (name == "angular") return Metric::kAngular;
  throw std::invalid_argument("metric is '" + name + "', must be euclidean or angular");
}

void ClusterAttributes::check() const {
  if (!(capacity > 0.0f && capacity <= 1.0f)) {
    throw std::invalid_argument("capacity is " + std::to_string(capacity) + ", must be above 0 and at most 1");
  }
}

Clusters cluster(Context& context, const Blocking& blocking, const ClusterAttributes& attributes, const float* x,
                 const int64_t* codes) {
  Clusters result = number_hashed(context, blocking, attributes, x, codes, nullptr);
  if (!attributes.verify) write_centroids(context, blocking, attributes, x, result);
  return result;
}

Clusters hash_and_cluster(Context& context, const Blocking& blocking, const HashAttributes& hash_attributes,
                          const HashParameters& parameters, const ClusterAttributes& attributes, const float* x) {
  if (windows_in_one_pass(blocking, attributes)) {
    Stopwatch watch(context.statistics.hash_ns);
    return number_blocks(context, blocking, [&](int64_t block, int32_t* ids) {
      return cluster_windows(context.allocator, blocking, hash_attributes, parameters, attributes, x, block, ids);
    });
  }
  if (pixels_in_one_pass(blocking, attributes)) {
    Stopwatch watch(context.statistics.hash_ns);
    return number_ranges(context, blocking, pixel_blocks_together(blocking), [&](BlockRange range, int32_t* ids) {
      return cluster_pixels(context.allocator, blocking, hash_attributes, parameters, attributes, x, range, ids);
    });
  }
  Clusters result = [&] {
    Stopwatch watch(context.statistics.hash_ns);
    const bool pixel_major = blocking.geometry.attributes.input_order == DataOrder::kNhwc;
    if (blocking.num_blocks() >= kBlocksToShareOut && !pixel_major) {
      return number_while_hashing(context, blocking, hash_attributes, parameters, attributes, x);
    }
    const size_t size = static_cast<size_t>(blocking.num_blocks() * blocking.vectors);
    Buffer<int64_t> codes(context.allocator, size);
    Buffer<uint8_t> finite(context.allocator, size);
    hash_by_stretches(context, blocking, hash_attributes, parameters, x, codes.data(), finite.data());
    return number_hashed(context, blocking, attributes, x, codes.data(), finite.data());
  }();
  Stopwatch watch(context.statistics.cluster_ns);
  if (!attributes.verify) write_centroids(context, blocking, attributes, x, result);
  return result;
}

}  // namespace reuse
