// QLinearReuseConv of scope static: what its bytes stand for, and codes of vectors of bytes.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "byte_weights.h"
#include "hash/byte_trees.h"
#include "reuse/checked.h"
#include "simd/kernels.h"
#include "tile_hasher.h"

namespace reuse {
namespace {

constexpr int32_t kHalf = 128, kBytes = 256;

// The attributes of the ReuseConv that it is.
ReuseAttributes in_floats(ReuseAttributes attributes) {
  attributes.conv.input_order = attributes.conv.output_order = DataOrder::kNhwc;
  attributes.conv.check();
  attributes.table = TableType::kInt8;
  attributes.check_incremental();
  return attributes;
}

std::vector<float> dequantised_weights(const QuantisedOperands& operands, int64_t count) {
  std::vector<float> weights(static_cast<size_t>(count));
  const auto* bytes = static_cast<const uint8_t*>(operands.weights.values);
  const int64_t per_channel = count / operands.out_channels;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t m = i / per_channel;
    const int32_t value = operands.weights.is_signed ? static_cast<int8_t>(bytes[i]) : bytes[i];
    weights[static_cast<size_t>(i)] =
        static_cast<float>(value - of_channel(operands.w_zero_points, m)) * of_channel(operands.w_scales, m);
  }
  return weights;
}

float bias_of(const QuantisedOperands& operands, const StaticByteOperands& given, int64_t channel) {
  if (given.fitted_bias != nullptr) return given.fitted_bias[channel];
  if (operands.bias == nullptr) return 0.0f;
  return static_cast<float>(operands.bias[channel]) * operands.x_scale * of_channel(operands.w_scales, channel);
}

}  // namespace

StaticBytePlan::StaticBytePlan(Allocator& allocator, const QuantisedOperands& operands, const StaticByteOperands& given)
    : plan_(in_floats(given.attributes)),
      x_flip_(operands.x_signed ? kHalf : 0),
      padding_(static_cast<uint8_t>(operands.x_zero_point + x_flip_)),
      x_scale_(operands.x_scale),
      inverse_(1.0f / operands.y_scale),
      y_zero_point_(operands.y_zero_point) {
  check_scales(operands);
  checked::require(std::isfinite(inverse_), "1 / y_scale is not finite");
  for (int32_t byte = 0; byte < kBytes; ++byte) {
    values_.push_back(static_cast<float>(byte - padding_) * operands.x_scale);
    checked::require(std::isfinite(values_.back()), "x_scale is so large that bytes of x stand for infinities");
  }
  const int64_t channels = operands.out_channels;
  const ConvAttributes& conv = plan_.attributes().conv;
  const int64_t columns = operands.in_channels / conv.group * conv.kernel_h * conv.kernel_w;
  const std::vector<float> own =
      given.fitted_weights != nullptr ? std::vector<float>() : dequantised_weights(operands, channels * columns);
  plan_.set_static(operands.in_channels, channels, own.empty() ? given.fitted_weights : own.data(), given.centroids,
                   given.centroids_size);
  plan_.set_hash(allocator, given.parameters, given.parameter_sizes);
  for (int64_t m = 0; m < channels; ++m) {
    bias_.push_back(bias_of(operands, given, m));
    checked::require(std::isfinite(bias_.back()), "the bias of output channel " + std::to_string(m) + " is not finite");
  }
  bias_.resize(bias_.size() + simd::kLanes, 0.0f);
  const int32_t least = operands.y_signed ? -kHalf : 0;
  low_ = static_cast<float>(least - y_zero_point_);
  high_ = static_cast<float>(least + kBytes - 1 - y_zero_point_);
  trees_ = byte_trees(allocator, given.parameters);
}

// A byte is above a threshold if what it stands for is, so that the largest that is not becomes the threshold.
std::shared_ptr<const ByteTrees> StaticBytePlan::byte_trees(Allocator& allocator,
                                                            const HashParameters& parameters) const {
  const bool walks_by_bytes = plan_.attributes().hash.family == &find_hash_family("learned") &&
                              parameters.projections == nullptr && simd::kernels().leaves_of_bytes != nullptr;
  if (!walks_by_bytes) return nullptr;
  const HashShape shape = plan_.hash_shape();
  std::vector<float> thresholds;
  for (int64_t i = 0; i < shape.num_blocks * ((int64_t{1} << shape.num_hashes) - 1); ++i) {
    const float threshold = parameters.thresholds[i];
    const auto below =
        std::isnan(threshold) ? kBytes : std::upper_bound(values_.begin(), values_.end(), threshold) - values_.begin();
    thresholds.push_back(below == kBytes ? std::numeric_limits<float>::infinity() : static_cast<float>(below - 1));
  }
  return std::make_shared<const ByteTrees>(
      allocator, HashParameters{nullptr, thresholds.data(), parameters.coordinates}, shape, true);
}

template <typename Code>
void StaticBytePlan::codes(const Blocking& blocking, const uint8_t* x, int64_t block, int64_t first, int64_t count,
                           const TileMemory& memory, Code* codes) const {
  const int64_t channels = blocking.geometry.in_channels, length = blocking.block_length(block);
  const int64_t begin = first * channels + blocking.first_channel(block);
  const simd::ByteTree* tree = trees_ == nullptr ? nullptr : trees_->tree(block);
  const simd::Kernels& kernels = simd::kernels();
  const simd::ByteVectors vectors{x + begin, channels, length, count, blocking.vectors * channels - begin,
                                  x_flip_,   padding_};
  if (tree != nullptr) {
    kernels.leaves_of_bytes(vectors, *tree, sizeof(Code), codes);
    return;
  }
  if (kernels.dequantise != nullptr) {
    kernels.dequantise(vectors, x_scale_, memory.values);
  } else {
    for (int64_t p = 0; p < count; ++p) {
      for (int64_t l = 0; l < length; ++l) {
        memory.values[l * kTileVectors + p] = values_[x[begin + p * channels + l] ^ x_flip_];
      }
    }
  }
  plan_.encoder().narrow_codes({memory.values, kTileVectors, length, count}, block, memory.scratch, codes);
}

template void StaticBytePlan::codes(const Blocking&, const uint8_t*, int64_t, int64_t, int64_t, const TileMemory&,
                                    uint8_t*) const;
template void StaticBytePlan::codes(const Blocking&, const uint8_t*, int64_t, int64_t, int64_t, const TileMemory&,
                                    uint16_t*) const;

void StaticBytePlan::write(int64_t channel, int64_t count, const float* sums, int64_t stride, int64_t pixels,
                           uint8_t* y) const {
  simd::kernels().write_quantised(sums, stride, pixels, count, bias_.data() + channel, inverse_,
                                  {low_, high_, y_zero_point_}, y + channel, plan_.out_channels());
}

}  // namespace reuse
