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

BlockRange all_blocks(const Blocking& blocking) { return {0, blocking.num_blocks()}; }

// Numbers the clusters of some blocks, the next after those that have some, in parallel; `number(range, ids)` does it
// for a few of them, `ids` being [B, V] of all blocks.
template <typename Number>
void number_ranges(Workspace& workspace, const Blocking& blocking, BlockRange blocks, int64_t together,
                   Clusters& clusters, const Number& number) {
  const int64_t count = blocks.end - blocks.begin;
  std::vector<std::unique_ptr<BlockClusters>> done(static_cast<size_t>(count));
  if (blocking.vectors > 0) {
    workspace.parallel.run((count + together - 1) / together, [&](int64_t task) {
      const int64_t begin = blocks.begin + task * together;
      std::vector<BlockClusters> found = number({begin, std::min(blocks.end, begin + together)}, clusters.ids.data());
      for (size_t i = 0; i < found.size(); ++i) {
        done[static_cast<size_t>(task * together) + i] = std::make_unique<BlockClusters>(std::move(found[i]));
      }
    });
  }
  count_vectors(workspace.statistics, blocking);
  for (auto& own : done) {
    clusters.blocks.push_back(own ? std::move(*own) : BlockClusters(workspace));
    workspace.statistics.clusters += clusters.blocks.back().count;
    workspace.statistics.guarded += clusters.blocks.back().guarded;
  }
}

// The same block by block: `number(block, ids)` gets the block's own ids.
template <typename Number>
void number_blocks(Workspace& workspace, const Blocking& blocking, BlockRange blocks, Clusters& clusters,
                   const Number& number) {
  number_ranges(workspace, blocking, blocks, 1, clusters, [&](BlockRange range, int32_t* ids) {
    std::vector<BlockClusters> found;
    found.push_back(number(range.begin, ids + range.begin * blocking.vectors));
    return found;
  });
}

// What needs no look at vectors once they are numbered.
constexpr auto kNothing = [](int64_t, int64_t, int64_t) {};

// Hashes and numbers block by block, reading each vector once.
void number_while_hashing(Workspace& workspace, const Blocking& blocking, const Encoder& encoder,
                          const ClusterAttributes& attributes, const float* x, BlockRange blocks, Clusters& clusters) {
  number_blocks(workspace, blocking, blocks, clusters, [&](int64_t block, int32_t* ids) {
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

// Numbers vectors of all blocks that are hashed already.
void number_hashed(Workspace& workspace, const Blocking& blocking, const ClusterAttributes& attributes, const float* x,
                   const int64_t* codes, const uint8_t* finite, Clusters& clusters) {
  number_blocks(workspace, blocking, all_blocks(blocking), clusters, [&](int64_t block, int32_t* ids) {
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
  if (name == "session") return Scope::kSession;
  if (name == "static") return Scope::kStatic;
  throw std::invalid_argument("scope is '" + readable(name) + "', must be image, batch, session or static");
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
  if (memory < 0) throw std::invalid_argument("memory is " + std::to_string(memory) + ", must be at least 0");
  if (scope != Scope::kStatic) return;
  if (verify || capacity != 1.0f || metric != Metric::kEuclidean) {
    throw std::invalid_argument(
        "scope static has the clusters given: verify, capacity and metric must be left at their defaults");
  }
}

void count_vectors(RunStatistics& statistics, const Blocking& blocking) {
  statistics.blocks = blocking.num_blocks();
  statistics.rows = blocking.geometry.rows();
  statistics.vectors = blocking.num_blocks() * blocking.vectors;
}

Clusters::Clusters(Allocator& allocator, const Blocking& blocking)
    : ids(allocator, static_cast<size_t>(blocking.num_blocks() * blocking.vectors)) {
  blocks.reserve(static_cast<size_t>(blocking.num_blocks()));
}

Clusters cluster(Workspace& workspace, const Blocking& blocking, const ClusterAttributes& attributes, const float* x,
                 const int64_t* codes) {
  Stopwatch watch(workspace.statistics.cluster_ns);
  Clusters result(workspace, blocking);
  number_hashed(workspace, blocking, attributes, x, codes, nullptr, result);
  if (!attributes.verify) write_centroids(workspace, blocking, attributes, x, all_blocks(blocking), result);
  return result;
}

Clusters given_clusters(Workspace& workspace, const Blocking& blocking, const float* centroids, int64_t count,
                        const float* x, const int64_t* codes) {
  const int64_t length = blocking.sub_vector_length();
  Clusters result(workspace, blocking);
  for (int64_t block = 0; block < blocking.num_blocks(); ++block) {
    BlockClusters own(workspace);
    own.centroids.resize(static_cast<size_t>(count * length));
    std::copy_n(centroids + block * count * length, count * length, own.centroids.data());
    own.count = count;
    result.blocks.push_back(std::move(own));
  }
  workspace.parallel.run(blocking.num_blocks(), [&](int64_t block) {
    BlockClusters& own = result.blocks[static_cast<size_t>(block)];
    int32_t* ids = result.ids.data() + block * blocking.vectors;
    Buffer<float> values(workspace, static_cast<size_t>(length * kTileVectors));
    uint8_t finite[kTileVectors];
    for_tiles(0, blocking.vectors, [&](int64_t first, int64_t some) {
      const Tile tile = load_tile(blocking, x, block, first, some, values.data());
      simd::kernels().all_finite(tile.values, tile.stride, tile.length, some, finite);
      for (int64_t p = 0; p < some; ++p) {
        const int64_t code = codes[block * blocking.vectors + first + p];
        if (code < 0 || code >= count) {
          throw std::out_of_range("codes hold " + std::to_string(code) + ", but there are " + std::to_string(count) +
                                  " centroids per block");
        }
        ids[first + p] = static_cast<int32_t>(finite[p] != 0 ? code : own.count);
        if (finite[p] != 0) continue;
        own.centroids.resize(static_cast<size_t>((own.count + 1) * length));
        float* centroid = own.centroids.data() + own.count * length;
        for (int64_t l = 0; l < length; ++l) centroid[l] = l < tile.length ? tile.values[l * tile.stride + p] : 0.0f;
        ++own.count;
        ++own.guarded;
      }
    });
  });
  RunStatistics& statistics = workspace.statistics;
  count_vectors(statistics, blocking);
  for (const BlockClusters& own : result.blocks) {
    statistics.clusters += own.count;
    statistics.guarded += own.guarded;
  }
  return result;
}

Clusters hash_and_cluster(Workspace& workspace, const Blocking& blocking, const Encoder& encoder,
                          const ClusterAttributes& attributes, const float* x) {
  Clusters result(workspace, blocking);
  hash_and_cluster(workspace, blocking, encoder, attributes, x, all_blocks(blocking), result);
  return result;
}

bool can_cluster_some_blocks(const Blocking& blocking, const ClusterAttributes& attributes) {
  const bool by_block = windows_in_one_pass(blocking, attributes) || blocking.num_blocks() >= kBlocksToShareOut;
  return by_block && blocking.geometry.attributes.input_order == DataOrder::kNchw;
}

void hash_and_cluster(Workspace& workspace, const Blocking& blocking, const Encoder& encoder,
                      const ClusterAttributes& attributes, const float* x, BlockRange blocks, Clusters& clusters) {
  if (windows_in_one_pass(blocking, attributes)) {
    Stopwatch watch(workspace.statistics.hash_ns);
    return number_blocks(workspace, blocking, blocks, clusters, [&](int64_t block, int32_t* ids) {
      return cluster_windows(workspace, blocking, encoder, attributes, x, block, ids);
    });
  }
  if (pixels_in_one_pass(blocking, attributes)) {
    Stopwatch watch(workspace.statistics.hash_ns);
    return number_ranges(workspace, blocking, blocks, pixel_blocks_together(blocking), clusters,
                         [&](BlockRange range, int32_t* ids) {
                           return cluster_pixels(workspace, blocking, encoder, attributes, x, range, ids);
                         });
  }
  {
    Stopwatch watch(workspace.statistics.hash_ns);
    if (can_cluster_some_blocks(blocking, attributes)) {
      number_while_hashing(workspace, blocking, encoder, attributes, x, blocks, clusters);
    } else {
      const Placed<CodeMemory> memory(workspace, blocking);
      hash_by_stretches(workspace, blocking, encoder, x, memory->codes, memory->finite);
      number_hashed(workspace, blocking, attributes, x, memory->codes, memory->finite, clusters);
    }
  }
  Stopwatch watch(workspace.statistics.cluster_ns);
  if (!attributes.verify) write_centroids(workspace, blocking, attributes, x, blocks, clusters);
}

}  // namespace reuse
