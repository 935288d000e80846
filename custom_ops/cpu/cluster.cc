// Operator Cluster: numbers the clusters of each block in order of first appearance; and the same together with Hash.
#include <algorithm>
#include <memory>
#include <stdexcept>

#include "block_numbering.h"
#include "centroids.h"
#include "heuristics.h"
#include "pixel_clusters.h"
#include "reuse/operators.h"
#include "reuse/text.h"
#include "simd/kernels.h"
#include "stopwatch.h"
#include "tile.h"
#include "tile_hasher.h"
#include "window_clusters.h"

namespace reuse {
namespace {

// Numbers all blocks' clusters in parallel; `number(range, ids)` does it for some, `ids` being [B, V] of all blocks.
template <typename Number>
Clusters number_ranges(Workspace& workspace, const Blocking& blocking, int64_t together, const Number& number) {
  const int64_t blocks = blocking.num_blocks(), vectors = blocking.vectors;
  Clusters result{Buffer<int32_t>(workspace, static_cast<size_t>(blocks * vectors)), {}};
  result.blocks.reserve(static_cast<size_t>(blocks));
  std::vector<std::unique_ptr<BlockClusters>> done(static_cast<size_t>(blocks));
  if (vectors > 0) {
    workspace.parallel.run((blocks + together - 1) / together, [&](int64_t task) {
      const BlockRange range{task * together, std::min(blocks, (task + 1) * together)};
      std::vector<BlockClusters> found = number(range, result.ids.data());
      for (size_t i = 0; i < found.size(); ++i) {
        done[static_cast<size_t>(range.begin) + i] = std::make_unique<BlockClusters>(std::move(found[i]));
      }
    });
  }
  workspace.statistics.blocks = blocks;
  workspace.statistics.rows = blocking.geometry.rows();
  workspace.statistics.vectors = blocks * vectors;
  for (auto& clusters : done) {
    result.blocks.push_back(clusters ? std::move(*clusters) : BlockClusters(workspace));
    workspace.statistics.clusters += result.blocks.back().count;
    workspace.statistics.guarded += result.blocks.back().guarded;
  }
  return result;
}

// The same block by block: `number(block, ids)` gets the block's own ids.
template <typename Number>
Clusters number_blocks(Workspace& workspace, const Blocking& blocking, const Number& number) {
  return number_ranges(workspace, blocking, 1, [&](BlockRange range, int32_t* ids) {
    std::vector<BlockClusters> found;
    found.push_back(number(range.begin, ids + range.begin * blocking.vectors));
    return found;
  });
}

// What needs no look at vectors once they are numbered.
constexpr auto kNothing = [](int64_t, int64_t, int64_t) {};

// Hashes and numbers block by block, reading each vector once.
Clusters number_while_hashing(Workspace& workspace, const Blocking& blocking, const Encoder& encoder,
                              const ClusterAttributes& attributes, const float* x) {
  return number_blocks(workspace, blocking, [&](int64_t block, int32_t* ids) {
    const Placed<TileMemory> memory(workspace, blocking.sub_vector_length(), encoder);
    int64_t codes[kTileVectors];
    uint8_t finite[kTileVectors];
    return number_block(
        workspace, blocking, attributes, block, ids,
        [&](int64_t first, int64_t count) {
          const Tile tile = load_tile(blocking, x, block, first, count, memory->values);
          hash_tile(encoder, tile, block, memory->scratch, codes, finite);
          return CodedTile{tile, codes, finite};
        },
        kNothing);
  });
}

// Codes [B, V] of all vectors, and whether each is finite.
struct CodeMemory {
  CodeMemory(Arena& arena, const Blocking& blocking)
      : codes(arena.take<int64_t>(blocking.num_blocks() * blocking.vectors)),
        finite(arena.take<uint8_t>(blocking.num_blocks() * blocking.vectors)) {}
  int64_t* codes;
  uint8_t* finite;
};

// Numbers vectors that are hashed already.
Clusters number_hashed(Workspace& workspace, const Blocking& blocking, const ClusterAttributes& attributes,
                       const float* x, const int64_t* codes, const uint8_t* finite) {
  return number_blocks(workspace, blocking, [&](int64_t block, int32_t* ids) {
    const bool read_values = attributes.verify || finite == nullptr;
    const int64_t offset = block * blocking.vectors;
    Buffer<float> values(workspace, static_cast<size_t>(read_values ? blocking.sub_vector_length() * kTileVectors : 0));
    uint8_t own_finite[kTileVectors];
    return number_block(
        workspace, blocking, attributes, block, ids,
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
  throw std::invalid_argument("scope is '" + readable(name) + "', must be batch or image");
}

Metric parse_metric(const std::string& name) {
  if (name == "euclidean") return Metric::kEuclidean;
  if (name == "angular") return Metric::kAngular;
  throw std::invalid_argument("metric is '" + readable(name) + "', must be euclidean or angular");
}

void ClusterAttributes::check() const {
  if (!(capacity > 0.0f && capacity <= 1.0f)) {
    throw std::invalid_argument("capacity is " + std::to_string(capacity) + ", must be above 0 and at most 1");
  }
}

Clusters cluster(Workspace& workspace, const Blocking& blocking, const ClusterAttributes& attributes, const float* x,
                 const int64_t* codes) {
  Stopwatch watch(workspace.statistics.cluster_ns);
  Clusters result = number_hashed(workspace, blocking, attributes, x, codes, nullptr);
  if (!attributes.verify) write_centroids(workspace, blocking, attributes, x, result);
  return result;
}

Clusters hash_and_cluster(Workspace& workspace, const Blocking& blocking, const Encoder& encoder,
                          const ClusterAttributes& attributes, const float* x) {
  if (windows_in_one_pass(blocking, attributes)) {
    Stopwatch watch(workspace.statistics.hash_ns);
    return number_blocks(workspace, blocking, [&](int64_t block, int32_t* ids) {
      return cluster_windows(workspace, blocking, encoder, attributes, x, block, ids);
    });
  }
  if (pixels_in_one_pass(blocking, attributes)) {
    Stopwatch watch(workspace.statistics.hash_ns);
    return number_ranges(workspace, blocking, pixel_blocks_together(blocking), [&](BlockRange range, int32_t* ids) {
      return cluster_pixels(workspace, blocking, encoder, attributes, x, range, ids);
    });
  }
  Clusters result = [&] {
    Stopwatch watch(workspace.statistics.hash_ns);
    const bool pixel_major = blocking.geometry.attributes.input_order == DataOrder::kNhwc;
    if (blocking.num_blocks() >= kBlocksToShareOut && !pixel_major) {
      return number_while_hashing(workspace, blocking, encoder, attributes, x);
    }
    const Placed<CodeMemory> memory(workspace, blocking);
    hash_by_stretches(workspace, blocking, encoder, x, memory->codes, memory->finite);
    return number_hashed(workspace, blocking, attributes, x, memory->codes, memory->finite);
  }();
  Stopwatch watch(workspace.statistics.cluster_ns);
  if (!attributes.verify) write_centroids(workspace, blocking, attributes, x, result);
  return result;
}

}  // namespace reuse
