// Numbering of one block's clusters in order of first appearance.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cluster_table.h"
#include "reuse/operators.h"

namespace reuse {

// A tile of vectors and what numbering needs to know of them. The values are needed only to verify members, `finite`
// only otherwise.
struct CodedTile {
  Tile tile;
  const int64_t* codes;
  const uint8_t* finite;
};

// Whether a vector's bits are those of a centroid, which is the first member.
inline bool has_bits(const Tile& tile, int64_t vector, const float* centroid) {
  for (int64_t l = 0; l < tile.length; ++l) {
    if (std::memcmp(centroid + l, tile.values + l * tile.stride + vector, sizeof(float)) != 0) return false;
  }
  return true;
}

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
      ids[p] = number(coded.tile, p, coded.codes[p], attributes_.verify || coded.finite[p] != 0);
    }
  }

  // The cluster of a vector that may share one or not.
  int32_t number(const Tile& tile, int64_t vector, int64_t code, bool sharable) {
    int32_t id = sharable ? table_.find(code) : -1;
    const bool taken = id >= 0;
    if (taken && attributes_.verify && !is_same(tile, vector, id)) id = -1;
    if (id < 0) id = open(tile, vector, code, sharable && !taken);
    ++clusters_.members[static_cast<size_t>(id)];
    return id;
  }

  // Clusters so far.
  int64_t count() const { return clusters_.count; }
  // Of the scope unit, that its further vectors may share.
  int64_t shared() const { return shared_; }

  BlockClusters finish() { return std::move(clusters_); }

 private:
  // Whether the vector's bits are those of the cluster's first member.
  bool is_same(const Tile& tile, int64_t vector, int32_t id) const {
    return has_bits(tile, vector, clusters_.centroids.data() + static_cast<int64_t>(id) * length_);
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

// Numbers one block's clusters; `read(first, count)` returns the coded tile of these vectors, and `numbered(first,
// count, clusters)` is called when their ids are written and there are that many clusters.
template <typename Read, typename Numbered>
BlockClusters number_block(Allocator& allocator, const Blocking& blocking, const ClusterAttributes& attributes,
                           int64_t block, int32_t* ids, const Read& read, const Numbered& numbered) {
  BlockNumbering numbering(allocator, blocking, attributes, block);
  const int64_t unit = numbering.vectors_per_unit();
  for (int64_t start = 0; start < blocking.vectors; start += unit) {
    numbering.start_unit();
    for (int64_t first = start; first < start + unit; first += kTileVectors) {
      const int64_t count = std::min(kTileVectors, start + unit - first);
      numbering.add(read(first, count), ids + first);
      numbered(first, count, numbering.count());
    }
  }
  return numbering.finish();
}

}  // namespace reuse
