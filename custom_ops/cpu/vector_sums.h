// Sums of vectors by cluster, one vector at a time, and the centroids that they give.
#pragma once

#include <algorithm>
#include <cmath>

#include "reuse/hash_family.h"
#include "reuse/operators.h"
#include "reuse/runtime.h"

namespace reuse {

// Sums in float64: of the members, or of their unit vectors and of their norms, as the metric says.
class VectorSums {
 public:
  VectorSums(Allocator& allocator, Metric metric, int64_t length)
      : angular_(metric == Metric::kAngular), length_(length), sums_(allocator), norms_(allocator) {}

  // There are `clusters` of them by now.
  void make_room(int64_t clusters) {
    grow(sums_, clusters * length_);
    if (angular_) grow(norms_, clusters);
  }

  void add(const Tile& tile, int64_t vector, int64_t id) {
    const float* values = tile.values + vector;
    double* sums = sums_.data() + id * length_;
    if (!angular_) {
      for (int64_t l = 0; l < tile.length; ++l) sums[l] += static_cast<double>(values[l * tile.stride]);
      return;
    }
    const double norm = norm_of(tile, vector);
    // A zero vector has no direction; a non-finite one is alone in its cluster, whose centroid is itself.
    norms_[static_cast<size_t>(id)] += std::isfinite(norm) ? norm : 1.0;
    const double divisor = std::isfinite(norm) && norm > 0.0 ? norm : 1.0;
    for (int64_t l = 0; l < tile.length; ++l) sums[l] += static_cast<double>(values[l * tile.stride]) / divisor;
  }

  // Writes a centroid, with zeros beyond the vectors' own length.
  void write(int64_t id, double members, float* centroid) const {
    const double* sums = sums_.data() + id * length_;
    const double scale = angular_ ? norms_[static_cast<size_t>(id)] / members : 1.0;
    for (int64_t l = 0; l < length_; ++l) centroid[l] = static_cast<float>(sums[l] / members * scale);
  }

 private:
  static void grow(Buffer<double>& values, int64_t size) {
    const size_t before = values.size();
    values.resize(static_cast<size_t>(size));
    std::fill(values.data() + before, values.data() + values.size(), 0.0);
  }

  static double norm_of(const Tile& tile, int64_t vector) {
    double squares = 0.0;
    for (int64_t l = 0; l < tile.length; ++l) {
      const double value = tile.values[l * tile.stride + vector];
      squares += value * value;
    }
    return std::sqrt(squares);
  }

  bool angular_;
  int64_t length_;
  Buffer<double> sums_;
  Buffer<double> norms_;
};

}  // namespace reuse
