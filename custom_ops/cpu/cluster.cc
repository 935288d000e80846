// Operator Cluster: numbers the clusters of each block in order of first appearance and forms their centroids.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <stdexcept>

#include "cluster_table.h"
#include "reuse/operators.h"
#include "simd/kernels.h"
#include "tile.h"

namespace reuse {
namespace {

// Sums of a block's members in float64, so that huge clusters lose nothing and large values do not overflow.
class Sums {
 public:
  Sums(Allocator& allocator, int64_t length, Metric metric)
      : length_(length), metric_(metric), sums_(allocator), members_(allocator), norms_(allocator) {}

  void open_cluster() {
    const size_t count = members_.size();
    sums_.resize((count + 1) * static_cast<size_t>(length_));
    std::fill_n(sums_.data() + count * static_cast<size_t>(length_), length_, 0.0);
    members_.resize(count + 1);
    members_[count] = 0;
    norms_.resize(count + 1);
    norms_[count] = 0.0;
  }

  void add(const Tile& tile, int64_t vector, int32_t id) {
    const float* values = tile.values + vector;
    double* sums = sums_.data() + static_cast<int64_t>(id) * length_;
    double divisor = 1.0;
    if (metric_ == Metric::kAngular) {
      const double norm = norm_of(tile, vector);
      // A zero vector has no direction; a non-finite one is alone in its cluster, whose centroid is itself.
      norms_[static_cast<size_t>(id)] += std::isfinite(norm) ? norm : 1.0;
      if (std::isfinite(norm) && norm > 0.0) divisor = norm;
    }
    for (int64_t l = 0; l < tile.length; ++l) sums[l] += static_cast<double>(values[l * tile.stride]) / divisor;
    ++members_[static_cast<size_t>(id)];
  }

  void write_centroids(float* centroids) const {
    for (size_t c = 0; c < members_.size(); ++c) {
      const double members = static_cast<double>(members_[c]);
      const double scale = metric_ == Metric::kAngular ? norms_[c] / members : 1.0;
      const double* sums = sums_.data() + c * static_cast<size_t>(length_);
      float* centroid = centroids + c * static_cast<size_t>(length_);
      for (int64_t l = 0; l < length_; ++l) centroid[l] = static_cast<float>(sums[l] / members * scale);
    }
  }

 private:
  static double norm_of(const Tile& tile, int64_t vector) {
    double squares = 0.0;
    for (int64_t l = 0; l < tile.length; ++l) {
      const double value = tile.values[l * tile.stride + vector];
      squares += value * value;
    }
    return std::sqrt(squares);
  }

  int64_t length_;
  Metric metric_;
  Buffer<double> sums_;
  Buffer<int64_t> members_;
  Buffer<double> norms_;
};

// Clusters one block, tile by tile.
class BlockClusterer {
 public:
  BlockClusterer(Allocator& allocator, const Blocking& blocking, const ClusterAttributes& attributes, int64_t block)
      : attributes_(attributes),
        length_(blocking.sub_vector_length()),
        block_length_(blocking.block_length(block)),
        table_(allocator),
        sums_(allocator, length_, attributes.metric),
        clusters_{Buffer<float>(allocator)} {
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

  void add(const Tile& tile, const int64_t* codes, int32_t* ids) {
    uint8_t finite[kTileVectors];
    if (!attributes_.verify) simd::kernels().all_finite(tile.values, tile.stride, tile.length, tile.count, finite);
    for (int64_t p = 0; p < tile.count; ++p) {
      const bool sharable = attributes_.verify || finite[p] != 0;
      int32_t id = sharable ? find(tile, p, codes[p]) : -1;
      if (id < 0) id = open(tile, p, codes[p], sharable);
      if (!attributes_.verify) sums_.add(tile, p, id);
      ids[p] = id;
    }
  }

  BlockClusters finish() {
    if (!attributes_.verify) {
      clusters_.centroids.resize(static_cast<size_t>(clusters_.count * length_));
      sums_.write_centroids(clusters_.centroids.data());
    }
    return std::move(clusters_);
  }

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
    if (attributes_.verify) {
      clusters_.centroids.resize(static_cast<size_t>(clusters_.count * length_));
      float* centroid = clusters_.centroids.data() + static_cast<int64_t>(id) * length_;
      for (int64_t l = 0; l < length_; ++l) {
        centroid[l] = l < block_length_ ? tile.values[l * tile.stride + vector] : 0.0f;
      }
    } else {
      sums_.open_cluster();
    }
    return id;
  }

  const ClusterAttributes& attributes_;
  int64_t length_, block_length_;
  int64_t unit_ = 0, limit_ = 0, shared_ = 0;
  ClusterTable table_;
  Sums sums_;
  BlockClusters clusters_;
};

BlockClusters cluster_block(Allocator& allocator, const Blocking& blocking, const ClusterAttributes& attributes,
                            const float* x, int64_t block, const int64_t* codes, int32_t* ids) {
  BlockClusterer clusterer(allocator, blocking, attributes, block);
  Buffer<float> values(allocator, static_cast<size_t>(blocking.sub_vector_length() * kTileVectors));
  const int64_t unit = clusterer.vectors_per_unit();
  for (int64_t start = 0; start < blocking.vectors; start += unit) {
    clusterer.start_unit();
    for (int64_t first = start; first < start + unit; first += kTileVectors) {
      const int64_t count = std::min(kTileVectors, start + unit - first);
      const Tile tile = load_tile(blocking, x, block, first, count, values.data());
      clusterer.add(tile, codes + first, ids + first);
    }
  }
  return clusterer.finish();
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
  const int64_t blocks = blocking.num_blocks(), vectors = blocking.vectors;
  Clusters result{Buffer<int32_t>(context.allocator, static_cast<size_t>(blocks * vectors)), {}};
  result.blocks.reserve(static_cast<size_t>(blocks));
  std::vector<std::unique_ptr<BlockClusters>> done(static_cast<size_t>(blocks));
  if (vectors > 0) {
    context.parallel.run(blocks, [&](int64_t block) {
      done[static_cast<size_t>(block)] =
          std::make_unique<BlockClusters>(cluster_block(context.allocator, blocking, attributes, x, block,
                                                        codes + block * vectors, result.ids.data() + block * vectors));
    });
  }
  context.statistics.blocks = blocks;
  context.statistics.rows = blocking.geometry.rows();
  context.statistics.vectors = blocks * vectors;
  for (auto& clusters : done) {
    result.blocks.push_back(clusters ? std::move(*clusters) : BlockClusters{Buffer<float>(context.allocator)});
    context.statistics.clusters += result.blocks.back().count;
    context.statistics.guarded += result.blocks.back().guarded;
  }
  return result;
}

}  // namespace reuse
