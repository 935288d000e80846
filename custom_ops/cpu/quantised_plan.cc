#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

#include "byte_weights.h"
#include "reuse/checked.h"
#include "simd/kernels.h"

namespace reuse {
namespace {

constexpr int32_t kHalf = 128;
constexpr int64_t kRowUnit = 16;  // bytes

int64_t whole(int64_t count, int64_t unit) { return (count + unit - 1) / unit * unit; }

int32_t smallest(bool is_signed) { return is_signed ? -kHalf : 0; }

void check_scale(float scale, const char* name) {
  checked::require(std::isfinite(scale) && scale > 0.0f,
                   std::string(name) + " holds " + std::to_string(scale) + ", must be positive and finite");
}

// Modulo 2^32.
int32_t added(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
}

void check_count(size_t count, int64_t channels, const char* name) {
  checked::require(count == 1 || static_cast<int64_t>(count) == channels,
                   std::string(name) + " has " + std::to_string(count) + " elements, needs 1 or " +
                       std::to_string(channels) + ", one for each output channel");
}

}  // namespace

void check_scales(const QuantisedOperands& operands) {
  check_scale(operands.x_scale, "x_scale");
  check_scale(operands.y_scale, "y_scale");
  check_count(operands.w_scales.size(), operands.out_channels, "w_scale");
  for (const float scale : operands.w_scales) check_scale(scale, "w_scale");
}

ByteWeights::ByteWeights(Allocator& allocator, const Blocking& blocking, const IntegerOperands& operands)
    : channels_(whole(blocking.geometry.group_out_channels(), simd::kLanes)),
      depth_(whole(blocking.sub_vector_length(), kRowUnit)),
      taps_(blocking.taps_per_block()),
      panels_(allocator) {
  static_assert(kLanes == simd::kLanes);
  const ConvGeometry& g = blocking.geometry;
  const int64_t columns = blocking.num_blocks() * taps_ * channels_, own = g.group_out_channels();
  checked::product({columns, depth_}, "the packed w");
  panels_.resize(static_cast<size_t>(columns * depth_));
  std::fill_n(panels_.data(), columns * depth_, int8_t{0});
  of_zero_point_.assign(static_cast<size_t>(g.attributes.group * channels_), 0);
  const int32_t shift = operands.weights.is_signed ? 0 : kHalf;
  const auto* values = static_cast<const uint8_t*>(operands.weights.values);
  const int64_t in_channels = g.group_in_channels(), taps = g.taps();
  for (int64_t block = 0; block < blocking.num_blocks(); ++block) {
    const int64_t group = blocking.group_of(block), first = blocking.block_start(block);
    const int64_t length = blocking.block_length(block);
    for (int64_t tap = 0; tap < taps_; ++tap) {
      for (int64_t m = 0; m < own; ++m) {
        const int64_t channel = group * own + m;
        const uint8_t* kernel = values + channel * in_channels * taps;
        int8_t* strip = panels_.data() + ((block * taps_ + tap) * channels_ + m / kLanes * kLanes) * depth_;
        uint32_t sum = 0;
        for (int64_t l = 0; l < length; ++l) {
          const bool patch = blocking.layout() == Layout::kPatch;
          const int64_t c = patch ? (first + l) % in_channels : first + l, t = patch ? (first + l) / in_channels : tap;
          const uint8_t byte = kernel[c * taps + t];
          const int32_t value = operands.weights.is_signed ? static_cast<int8_t>(byte) : byte - shift;
          strip[(l / 4 * kLanes + m % kLanes) * 4 + l % 4] = static_cast<int8_t>(value);
          sum += static_cast<uint32_t>(value);
        }
        // sum of (x - zx)(w - zw) = sum of x w - zw sum of x + zx (length zw - sum of w)
        const auto zero_point = static_cast<uint32_t>(of_channel(operands.w_zero_points, channel) - shift);
        int32_t& all = of_zero_point_[static_cast<size_t>(group * channels_ + m)];
        all = static_cast<int32_t>(static_cast<uint32_t>(all) + static_cast<uint32_t>(length) * zero_point - sum);
      }
    }
  }
  const auto& given = operands.w_zero_points;
  if (std::all_of(given.begin(), given.end(), [&](int32_t zero_point) { return zero_point == shift; })) return;
  zero_points_.assign(static_cast<size_t>(g.attributes.group * channels_), 0);
  for (int64_t m = 0; m < g.out_channels; ++m) {
    zero_points_[static_cast<size_t>(m / own * channels_ + m % own)] = of_channel(given, m) - shift;
  }
}

QuantisedPlan::QuantisedPlan(Allocator& allocator, const ConvAttributes& attributes, Scope scope,
                             const IntegerOperands& operands)
    : attributes_(attributes),
      scope_(scope),
      any_size_(Blocking::of_any_size(attributes, operands.in_channels, operands.out_channels)),
      y_bytes_(sizeof(float)) {
  checked::require(scope == Scope::kBatch || scope == Scope::kImage, "scope must be batch or image");
  check_count(operands.w_zero_points.size(), operands.out_channels, "w_zero_point");
  weights_ = std::make_shared<const ByteWeights>(allocator, any_size_, operands);
  padded_channels_ = weights_->channels();
}

QuantisedPlan::QuantisedPlan(Allocator& allocator, const ConvAttributes& attributes, Scope scope,
                             const QuantisedOperands& operands)
    : QuantisedPlan(allocator, attributes, scope, static_cast<const IntegerOperands&>(operands)) {
  check_scales(operands);
  start_windows(operands.x_signed, operands.x_zero_point);
  scales_.assign(window_start_.size(), 0.0f);
  for (int64_t m = 0; m < operands.out_channels; ++m) {
    const size_t place = place_of(m);
    const float both = operands.x_scale * of_channel(operands.w_scales, m);
    scales_[place] = both / operands.y_scale;
    checked::require(std::isfinite(scales_[place]),
                     "x_scale * w_scale / y_scale is not finite in output channel " + std::to_string(m));
    if (operands.bias != nullptr) window_start_[place] = added(window_start_[place], operands.bias[m]);
  }
  y_bytes_ = 1;
  y_zero_point_ = operands.y_zero_point;
  const int32_t least = smallest(operands.y_signed);
  low_ = static_cast<float>(least - y_zero_point_);
  high_ = static_cast<float>(least + 255 - y_zero_point_);
}

QuantisedPlan QuantisedPlan::with(bool x_signed, int32_t x_zero_point, const std::vector<float>& scales,
                                  const float* bias) const {
  const int64_t channels = any_size_.geometry.out_channels;
  check_count(scales.size(), channels, "scale");
  QuantisedPlan plan = *this;
  plan.start_windows(x_signed, x_zero_point);
  plan.scales_.assign(plan.window_start_.size(), 0.0f);
  plan.float_bias_.assign(plan.window_start_.size(), -0.0f);  // which changes nothing that it is added to
  for (int64_t m = 0; m < channels; ++m) {
    plan.scales_[place_of(m)] = of_channel(scales, m);
    if (bias != nullptr) plan.float_bias_[place_of(m)] = bias[m];
  }
  return plan;
}

size_t QuantisedPlan::place_of(int64_t channel) const {
  const int64_t own = any_size_.geometry.group_out_channels();
  return static_cast<size_t>(channel / own * padded_channels_ + channel % own);
}

void QuantisedPlan::start_windows(bool x_signed, int32_t x_zero_point) {
  x_flip_ = x_signed ? kHalf : 0;
  x_zero_point_ = static_cast<uint8_t>(x_zero_point);
  const auto taken = static_cast<uint32_t>(x_zero_point + x_flip_);  // as unsigned bytes are
  window_start_ = weights_->of_zero_point();
  for (int32_t& start : window_start_) start = static_cast<int32_t>(taken * static_cast<uint32_t>(start));
}

void QuantisedPlan::write(int64_t group, int64_t channel, int64_t count, const int32_t* sums, int64_t stride,
                          int64_t windows, const int32_t* places, uint8_t* y) const {
  const ConvGeometry& g = any_size_.geometry;
  const int64_t given = std::min(count, g.group_out_channels() - channel);
  const float* const scales = scales_.data() + group * padded_channels_ + channel;
  y += (group * g.group_out_channels() + channel) * y_bytes_;
  if (y_bytes_ == 1) {
    simd::kernels().write_bytes(sums, stride, windows, given, {scales, {low_, high_, y_zero_point_}}, places, y,
                                g.out_channels);
  } else {
    const float* const bias = float_bias_.data() + group * padded_channels_ + channel;
    simd::kernels().write_floats(sums, stride, windows, given, scales, bias, places, reinterpret_cast<float*>(y),
                                 g.out_channels);
  }
}

Blocking QuantisedPlan::blocking(int64_t batch, int64_t height, int64_t width) const {
  const ConvGeometry& g = any_size_.geometry;
  return Blocking::make(ConvGeometry::make(attributes_, batch, g.in_channels, height, width, g.out_channels));
}

}  // namespace reuse
