// The sums of clusters' members while these are being numbered, in float64 and in the order of the vectors.
#pragma once

#include <algorithm>

#include "reuse/hash_family.h"
#include "reuse/operators.h"
#include "reuse/runtime.h"
#include "simd/kernels.h"

namespace reuse {

// For vectors of any length that come as rows, or of up to simd::kMemberStrip elements that come as tiles.
class MemberSums {
 public:
  MemberSums(Allocator& allocator, int64_t block_length, int64_t vectors)
      : width_((block_length + 7) / 8 * 8),
        sums_(allocator, static_cast<size_t>(std::min(vectors / kFewVectors, kMostClusters) * width_)) {
    sums_.resize(0);
  }

  // There are `clusters` of them by now.
  void add(const Rows& rows, const int32_t* ids, int64_t clusters) {
    make_room(clusters);
    simd::kernels().add_rows(rows.values, rows.stride, rows.count, ids, sums_.data(), width_);
  }
  void add(const Tile& tile, const int32_t* ids, int64_t clusters) {
    make_room(clusters);
    simd::kernels().add_members(tile.values, tile.stride, tile.length, tile.count, ids, sums_.data());
  }

  // Writes the clusters' centroids, padded with zeros from `block_length` to `length`.
  void write_means(int64_t length, int64_t block_length, BlockClusters& clusters) const {
    clusters.centroids.resize(static_cast<size_t>(clusters.count * length));
    if (block_length < length) std::fill_n(clusters.centroids.data(), clusters.centroids.size(), 0.0f);
    simd::kernels().write_means(sums_.data(), width_, clusters.members.data(), clusters.count, block_length,
                                clusters.centroids.data(), length);
  }

 private:
  // Vectors per cluster, and clusters, for which there is memory from the start: with more clusters sums must move.
  static constexpr int64_t kFewVectors = 8, kMostClusters = 8192;

  void make_room(int64_t clusters) {
    const size_t before = sums_.size();
    sums_.resize(static_cast<size_t>(clusters * width_));
    std::fill(sums_.data() + before, sums_.data() + sums_.size(), 0.0);
  }

  int64_t width_;
  Buffer<double> sums_;
};

}  // namespace reuse
