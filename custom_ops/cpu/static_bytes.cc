// QLinearReuseConv of scope static: what its bytes stand for, and how sums become bytes.
#include <cmath>
#include <string>

#include "byte_hash.h"
#include "byte_weights.h"
#include "reuse/checked.h"

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

float bias_of(const QuantisedOperands& operands, int64_t channel) {
  if (operands.bias == nullptr) return 0.0f;
  return static_cast<float>(operands.bias[channel]) * operands.x_scale * of_channel(operands.w_scales, channel);
}

}  // namespace

ByteOutput::ByteOutput(const QuantisedOperands& operands, const float* fitted_bias)
    : channels_(operands.out_channels), inverse_(1.0f / operands.y_scale), y_zero_point_(operands.y_zero_point) {
  checked::require(std::isfinite(inverse_), "1 / y_scale is not finite");
  for (int64_t m = 0; m < channels_; ++m) {
    bias_.push_back(fitted_bias != nullptr ? fitted_bias[m] : bias_of(operands, m));
    checked::require(std::isfinite(bias_.back()), "the bias of output channel " + std::to_string(m) + " is not finite");
  }
  bias_.resize(bias_.size() + simd::kLanes, 0.0f);
  const int32_t least = operands.y_signed ? -kHalf : 0;
  low_ = static_cast<float>(least - y_zero_point_);
  high_ = static_cast<float>(least + kBytes - 1 - y_zero_point_);
}

void ByteOutput::write(int64_t channel, int64_t count, const float* sums, int64_t stride, int64_t pixels,
                       uint8_t* y) const {
  simd::kernels().write_quantised(sums, stride, pixels, count, bias_.data() + channel, inverse_,
                                  {low_, high_, y_zero_point_}, y + channel, channels_);
}

StaticBytePlan::StaticBytePlan(Allocator& allocator, const QuantisedOperands& operands, const StaticByteOperands& given)
    : plan_(in_floats(given.attributes)) {
  check_scales(operands);
  const ConvAttributes& conv = plan_.attributes().conv;
  const int64_t channels = operands.out_channels;
  const int64_t columns = operands.in_channels / conv.group * conv.kernel_h * conv.kernel_w;
  const std::vector<float> own =
      given.fitted_weights != nullptr ? std::vector<float>() : dequantised_weights(operands, channels * columns);
  plan_.set_static(operands.in_channels, channels, own.empty() ? given.fitted_weights : own.data(), given.centroids,
                   given.centroids_size);
  plan_.set_hash(allocator, given.parameters, given.parameter_sizes);
  hash_ = std::make_shared<const ByteHash>(allocator, plan_.shared_encoder(), plan_.attributes().hash, given.parameters,
                                           plan_.hash_shape(), operands);
  output_ = std::make_shared<const ByteOutput>(operands, given.fitted_bias);
}

}  // namespace reuse
