#include "arguments.h"

#include <algorithm>
#include <iterator>
#include <stdexcept>
#include <string>

namespace reuse::capi {
namespace {

const HashFamily& family_of(const reuse_hashing& h) {
  if (h.family == nullptr) throw std::invalid_argument("family is null, must be a name");
  return find_hash_family(h.family);
}

void require_array(const void* array, int64_t size, const std::string& name) {
  if (array != nullptr || size <= 0) return;
  throw std::invalid_argument(name + " are null, but said to have " + std::to_string(size) + " elements");
}

Scope scope_of(int32_t number) {
  constexpr Scope kScopes[] = {Scope::kBatch, Scope::kImage, Scope::kStatic};
  if (number >= 0 && number < static_cast<int32_t>(std::size(kScopes))) return kScopes[number];
  throw std::invalid_argument("scope is " + std::to_string(number) + ", must be 0 (batch), 1 (image) or 2 (static)");
}

}  // namespace

ConvAttributes conv_attributes_of(const reuse_convolution& c) {
  ConvAttributes a;
  a.kernel_h = c.kernel[0];
  a.kernel_w = c.kernel[1];
  a.stride_h = c.strides[0];
  a.stride_w = c.strides[1];
  a.pad_top = c.pads[0];
  a.pad_left = c.pads[1];
  a.pad_bottom = c.pads[2];
  a.pad_right = c.pads[3];
  a.dilation_h = c.dilations[0];
  a.dilation_w = c.dilations[1];
  a.group = c.group;
  a.layout = c.patch != 0 ? Layout::kPatch : Layout::kChannel;
  a.sub_vector_length = c.sub_vector_length;
  a.input_order = c.pixel_major_input != 0 ? DataOrder::kNhwc : DataOrder::kNchw;
  a.output_order = c.pixel_major_output != 0 ? DataOrder::kNhwc : DataOrder::kNchw;
  return a;
}

Blocking blocking_of(const reuse_convolution& c) {
  const ConvAttributes a = conv_attributes_of(c);
  return Blocking::make(ConvGeometry::make(a, c.batch, c.in_channels, c.in_height, c.in_width, c.out_channels));
}

ClusterAttributes cluster_attributes_of(const reuse_hashing& h) {
  const ClusterAttributes attributes{scope_of(h.scope), h.metric_angular != 0 ? Metric::kAngular : Metric::kEuclidean,
                                     h.capacity, family_of(h).is_lossless()};
  attributes.check();
  return attributes;
}

HashParameterSizes sizes_of(const reuse_hashing& h) {
  return {h.projections_size, h.thresholds_size, h.coordinates_size};
}

HashAttributes hash_attributes_of(const reuse_hashing& h, const Blocking& blocking) {
  require_array(h.projections, h.projections_size, "projections");
  require_array(h.thresholds, h.thresholds_size, "thresholds");
  require_array(h.coordinates, h.coordinates_size, "coordinates");
  const HashAttributes attributes{&family_of(h), h.num_hashes};
  attributes.family->check(sizes_of(h), {blocking.num_blocks(), blocking.sub_vector_length(), attributes.num_hashes});
  return attributes;
}

const float* centroids_of(const reuse_hashing& h, const Blocking& blocking) {
  require_array(h.centroids, h.centroids_size, "centroids");
  const bool is_static = scope_of(h.scope) == Scope::kStatic;
  const int64_t per_block = is_static ? HashAttributes{&family_of(h), h.num_hashes}.given_clusters() : 0;
  const int64_t expected = blocking.num_blocks() * per_block * blocking.sub_vector_length();
  if (std::max(h.centroids_size, int64_t{0}) == expected) return is_static ? h.centroids : nullptr;
  throw std::invalid_argument("centroids have " + std::to_string(h.centroids_size) + " elements, must have " +
                              std::to_string(expected));
}

int64_t checked_rows(int64_t rows) {
  if (rows < 0) throw std::invalid_argument("rows is " + std::to_string(rows) + ", must be at least 0");
  return rows;
}

}  // namespace reuse::capi
