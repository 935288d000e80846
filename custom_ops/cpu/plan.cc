#include "reuse/plan.h"

#include <stdexcept>
#include <string>

#include "static_tables.h"

namespace reuse {

void ReuseAttributes::check_incremental() const {
  if (!incremental || (cluster.scope == Scope::kStatic && table == TableType::kInt8 && keep_tables)) return;
  throw std::invalid_argument(
      "incremental is 1, and only sums of integers that are always the same can be kept: scope must be static, table "
      "int8, and keep_tables 1");
}

void ReusePlan::set_weights(Allocator& allocator, int64_t in_channels, int64_t out_channels, const float* weights) {
  any_size_ = Blocking::of_any_size(attributes_.conv, in_channels, out_channels);
  weights_ = std::make_shared<const PackedWeights>(allocator, any_size_, attributes_.table, weights);
}

void ReusePlan::set_static(int64_t in_channels, int64_t out_channels, const float* weights, const float* centroids,
                           int64_t size) {
  any_size_ = Blocking::of_any_size(attributes_.conv, in_channels, out_channels);
  StaticOperands operands{any_size_, attributes_.table, attributes_.keep_tables, attributes_.hash.given_clusters(), {},
                          {}};
  const int64_t needed = any_size_.num_blocks() * operands.clusters * any_size_.sub_vector_length();
  if (size != needed) {
    throw std::invalid_argument("centroids have " + std::to_string(size) + " elements, need " + std::to_string(needed) +
                                ": [blocks, 2^num_hashes, sub_vector_length]");
  }
  const ConvGeometry& g = any_size_.geometry;
  operands.weights.assign(weights, weights + g.out_channels * g.columns());
  operands.centroids.assign(centroids, centroids + size);
  static_tables_ = StaticTables::of(std::move(operands));
}

void ReusePlan::set_bias(const float* bias, int64_t size) {
  const int64_t needed = any_size_.geometry.out_channels;
  if (bias != nullptr && size != needed) {
    throw std::invalid_argument("bias has " + std::to_string(size) + " elements, needs " + std::to_string(needed));
  }
  bias_ = std::make_shared<const std::vector<float>>(bias, bias == nullptr ? bias : bias + size);
}

void ReusePlan::set_hash(Allocator& allocator, const HashParameters& parameters, const HashParameterSizes& sizes) {
  encoder_ = make_encoder(allocator, attributes_.hash, any_size_.num_blocks(), any_size_.sub_vector_length(),
                          parameters, sizes);
}

Blocking ReusePlan::blocking(int64_t batch, int64_t height, int64_t width) const {
  const ConvGeometry& g = any_size_.geometry;
  return Blocking::make(ConvGeometry::make(attributes_.conv, batch, g.in_channels, height, width, g.out_channels));
}

}  // namespace reuse
