// Operands of kernels from the operators' own types.
#pragma once

#include <algorithm>
#include <iterator>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>

#include "gather_kernels.h"
#include "hash_kernels.h"
#include "reuse/arena.h"
#include "reuse/cuda_operators.h"

namespace reuse::cuda {

inline int32_t to_int32(int64_t value, const char* what) {
  if (value <= std::numeric_limits<int32_t>::max()) return static_cast<int32_t>(value);
  throw std::invalid_argument(std::string(what) + " is " + std::to_string(value) +
                              ", more than the CUDA kernels can count; run smaller batches or inputs");
}

inline Shape make_shape(const Blocking& blocking) {
  const ConvGeometry& g = blocking.geometry;
  const ConvAttributes& a = g.attributes;
  to_int32(g.in_h + a.pad_top + a.pad_bottom, "the input's padded height");
  to_int32(g.in_w + a.pad_left + a.pad_right, "the input's padded width");
  to_int32(g.in_pixels(), "the input's size");
  to_int32(blocking.table_width(), "the width of a table");
  Shape s{};
  s.batch = to_int32(g.batch, "the batch size");
  s.in_channels = to_int32(g.in_channels, "the number of input channels");
  s.in_h = static_cast<int32_t>(g.in_h);
  s.in_w = static_cast<int32_t>(g.in_w);
  s.out_channels = to_int32(g.out_channels, "the number of output channels");
  s.out_h = static_cast<int32_t>(g.out_h);
  s.out_w = static_cast<int32_t>(g.out_w);
  s.kernel_h = static_cast<int32_t>(a.kernel_h);
  s.kernel_w = static_cast<int32_t>(a.kernel_w);
  s.stride_h = static_cast<int32_t>(a.stride_h);
  s.stride_w = static_cast<int32_t>(a.stride_w);
  s.pad_top = static_cast<int32_t>(a.pad_top);
  s.pad_left = static_cast<int32_t>(a.pad_left);
  s.dilation_h = static_cast<int32_t>(a.dilation_h);
  s.dilation_w = static_cast<int32_t>(a.dilation_w);
  s.group = static_cast<int32_t>(a.group);
  s.group_in_channels = static_cast<int32_t>(g.group_in_channels());
  s.group_out_channels = static_cast<int32_t>(g.group_out_channels());
  s.length = static_cast<int32_t>(a.sub_vector_length);
  s.group_width = to_int32(blocking.group_width, "the number of columns");
  s.blocks_per_group = static_cast<int32_t>(blocking.blocks_per_group);
  s.num_blocks = to_int32(blocking.num_blocks(), "the number of blocks");
  s.vectors = to_int32(blocking.vectors, "the number of neuron vectors");
  s.taps = static_cast<int32_t>(blocking.taps_per_block());
  s.rows = to_int32(g.rows(), "the number of output pixels");
  s.patch = a.layout == Layout::kPatch;
  s.input_pixel_major = a.input_order == DataOrder::kNhwc;
  s.output_pixel_major = a.output_order == DataOrder::kNhwc;
  return s;
}

inline Family family_of(const HashFamily& family) {
  const auto* const place =
      std::find(std::begin(kFamilyNames), std::end(kFamilyNames), std::string_view(family.name()));
  if (place == std::end(kFamilyNames)) {
    throw std::invalid_argument(std::string("family ") + family.name() + " has no CUDA kernel; run it on the CPU");
  }
  return static_cast<Family>(place - std::begin(kFamilyNames));
}

inline HashOperands make_hash(const HashAttributes& attributes, const HashParameters& parameters) {
  return {family_of(*attributes.family), static_cast<int32_t>(attributes.num_hashes), parameters.projections,
          parameters.thresholds, parameters.coordinates};
}

inline ActivationOperands make_activation(const GatherAttributes& attributes) {
  const std::vector<float>& params = attributes.activation_params;
  return {attributes.activation, params.empty() ? 0.0f : params[0], params.size() < 2 ? 0.0f : params[1]};
}

// Blocks of threads of kernels that share out work whose amount the host does not know.
template <typename Launcher>
int64_t shared_blocks(const Launcher& launcher) {
  constexpr int64_t kPerMultiprocessor = 4;
  return launcher.multiprocessors() * kPerMultiprocessor;
}

}  // namespace reuse::cuda
