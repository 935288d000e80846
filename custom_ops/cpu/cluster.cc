// Operator Cluster: numbers the clusters of each block in order of first appearance; and the same together with Hash.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <stdexcept>

#include "centroids.h"
#include "cluster_table.h"
#include "heuristics.h"
#include "reuse/operators.h"
#include "simd/kernels.h"
#include "stopwatch.h"
#include "tile.h"
#include "tile_hasher.h"

namespace reuse {
namespace {

// A tile of vectors and what numbering needs to know of them. The values are needed only to verify members, `finite`
// only otherwise.
struct CodedTile {
  Tile tile;
  const int64_t* codes;
  const uint8_t* finite;
};

// Numbers the clusters of one block, tile by tile.
class BlockNumbering {
 public:
  BlockNumbering(Allocator& allocator, const Blocking& blocking, const ClusterAttributes& attributes, int64_t block)
      : attributes_(attributes),
        length_(blocking.sub_vector_length()),
        block_length_(blocking.block_length(block)),
        table_(allocator),
        clusters_(allocator) {
    const int64_t units = attributes.scope == Scope::kImage ? blocking.geometry.batch : 1;
    unit_ = blocking.vectors / units;
    limit_ = std::max<int64_t>(
        1, static_cast<int64_t>(std::ceil(static_cast<double>(attributes.capacity) * static_cast<double>(unit_))));
  }

  // Vectors of one scope unit; its boundaries must not lie inside a tile.
  int64_t vectors_per_unit() const { return unit_; }

  void start_unit() {
    table_.reset();
    shared_ = 0;
  }

  void add(const CodedTile& coded, int32_t* ids) {
    for (int64_t p = 0; p < coded.tile.count; ++p) {
      const bool sharable = attributes_.verify || coded.finite[p] != 0;
      int32_t id = sharable ? find(coded.tile, p, coded.codes[p]) : -1;
      if (id < 0) id = open(coded.tile, p, coded.codes[p], sharable);
      ++clusters_.members[static_cast<size_t>(id)];
      ids[p] = id;
    }
  }

  BlockClusters finish() { return std::move(clusters_); }

 private:
  int32_t find(const Tile& tile, int64_t vector, int64_t code) const {
    return table_.find(code, [&](int32_t id) { return !attributes_.verify || is_same(tile, vector, id); });
  }

  // Whether the vector's bits are those of the cluster's first member.
  bool is_same(const Tile& tile, int64_t vector, int32_t id) const {
    const float* centroid = clusters_.centroids.data() + static_cast<int64_t>(id) * length_;
    for (int64_t l = 0; l < tile.length; ++l) {
      if (std::memcmp(centroid + l, tile.values + l * tile.stride + vector, sizeof(float)) != 0) return false;
    }
    return true;
  }

  int32_t open(const Tile& tile, int64_t vector, int64_t code, bool sharable) {
    const int32_t id = static_cast<int32_t>(clusters_.count++);
    if (sharable && shared_ < limit_) {
      table_.insert(code, id);
      ++shared_;
    } else {
      ++clusters_.guarded;
    }
    clusters_.members.resize(static_cast<size_t>(clusters_.count));
    clusters_.members[static_cast<size_t>(id)] = 0;
    if (attributes_.verify) keep_first_member(tile, vector, id);
    return id;
  }

  void keep_first_member(const Tile& tile, int64_t vector, int32_t id) {
    clusters_.centroids.resize(static_cast<size_t>(clusters_.count * length_));
    float* centroid = clusters_.centroids.data() + static_cast<int64_t>(id) * length_;
    for (int64_t l = 0; l < length_; ++l) {
      centroid[l] = l < block_length_ ? tile.values[l * tile.stride + vector] : 0.0f;
    }
  }

  const ClusterAttributes& attributes_;
  int64_t length_, block_length_;
  int64_t unit_ = 0, limit_ = 0, shared_ = 0;
  ClusterTable table_;
  BlockClusters clusters_;
};

// Numbers one block's clusters; `read(first, count)` returns the coded tile of these vectors.
template <typename Read>
BlockClusters number_block(Allocator& allocator, const Blocking& blocking, const ClusterAttributes& attributes,
                           int64_t block, int32_t* ids, const Read& read) {
  BlockNumbering numbering(allocator, blocking, attributes, block);
  const int64_t unit = numbering.vectors_per_unit();
  for (int64_t start = 0; start < blocking.vectors; start += unit) {
    numbering.start_unit();
    for (int64_t first = start; first < start + unit; first += kTileVectors) {
      numbering.add(read(first, std::min(kTileVectors, start + unit - first)), ids + first);
    }
  }
  return numbering.finish();
}

// Numbers all blocks' clusters in parallel; `number(block, ids)` does it for one.
template <typename Number>
Clusters number_blocks(Context& context, const Blocking& blocking, const Number& number) {
  const int64_t blocks = blocking.num_blocks(), vectors = blocking.vectors;
  Clusters result{Buffer<int32_t>(context.allocator, static_cast<size_t>(blocks * vectors)), {}};
  result.blocks.reserve(static_cast<size_t>(blocks));
  std::vector<std::unique_ptr<BlockClusters>> done(static_cast<size_t>(blocks));
  if (vectors > 0) {
    context.parallel.run(blocks, [&](int64_t block) {
      done[static_cast<size_t>(block)] =
          std::make_unique<BlockClusters>(number(block, result.ids.data() + block * vectors));
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

// Hashes and numbers block by block, reading each vector once.
Clusters number_while_hashing(Context& context, const Blocking& blocking, const HashAttributes& hash_attributes,
                              const HashParameters& parameters, const ClusterAttributes& attributes, const float* x) {
  return number_blocks(context, blocking, [&](int64_t block, int32_t* ids) {
    TileHasher hasher(context.allocator, blocking, hash_attributes, parameters, x, block);
    int64_t codes[kTileVectors];
    uint8_t finite[kTileVectors];
    return number_block(context.allocator, blocking, attributes, block, ids, [&](int64_t first, int64_t count) {
      return CodedTile{hasher.hash(first, count, codes, finite), codes, finite};
    });
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
    return number_block(context.allocator, blocking, attributes, block, ids, [&](int64_t first, int64_t count) {
      CodedTile coded{Tile{nullptr, 0, 0, count}, codes + offset + first, own_finite};
      if (read_values) coded.tile = load_tile(blocking, x, block, first, count, values.data());
      if (finite != nullptr) {
        coded.finite = finite + offset + first;
      } else {
        simd::kernels().all_finite(coded.tile.values, coded.tile.stride, coded.tile.length, count, own_finite);
      }
      return coded;
    });
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
  Clusters result = [&] {
    Stopwatch watch(context.statistics.hash_ns);
    if (blocking.num_blocks() >= kBlocksToShareOut) {
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
