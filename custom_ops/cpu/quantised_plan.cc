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

// Of a vector with 1 or M elements.
template <typename T>
T of_channel(const std::vector<T>& values, int64_t channel) {
  return values[values.size() == 1 ? 0 : static_cast<size_t>(channel)];
}

void check_count(size_t count, int64_t channels, const char* name) {
  checked::require(count == 1 || static_cast<int64_t>(count) == channels,
                   std::string(name) + " has " + std::to_string(count) + " elements, needs 1 or " +
                       std::to_string(channels) + ", one for each output channel");
}

}  // namespace

ByteWeights::ByteWeights(Allocator& allocator, const Blocking& blocking, const QuantisedOperands& operands)
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
  start_.assign(static_cast<size_t>(columns), 0);
  const int32_t shift = operands.weights.is_signed ? 0 : kHalf;
  const int32_t x_zero_point = operands.x_zero_point + (operands.x_signed ? kHalf : 0);
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
        // sum of (x - zx)(w - zw) = sum of x w - zw sum of x - zx (sum of w - length zw)
        const auto zero_point = static_cast<uint32_t>(of_channel(operands.w_zero_points, channel) - shift);
        const uint32_t constant =
            static_cast<uint32_t>(x_zero_point) * (static_cast<uint32_t>(length) * zero_point - sum);
        start_[static_cast<size_t>((block * taps_ + tap) * channels_ + m)] = static_cast<int32_t>(constant);
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
                             const QuantisedOperands& operands)
    : attributes_(attributes),
      scope_(scope),
      any_size_(Blocking::of_any_size(attributes, operands.in_channels, operands.out_channels)),
      x_flip_(operands.x_signed ? kHalf : 0),
      x_zero_point_(static_cast<uint8_t>(operands.x_zero_point)),
      y_zero_point_(operands.y_zero_point) {
  checked::require(scope == Scope::kBatch || scope == Scope::kImage, "scope must be batch or image");
  check_scale(operands.x_scale, "x_scale");
  check_scale(operands.y_scale, "y_scale");
  check_count(operands.w_scales.size(), operands.out_channels, "w_scale");
  check_count(operands.w_zero_points.size(), operands.out_channels, "w_zero_point");
  for (const float scale : operands.w_scales) check_scale(scale, "w_scale");
  weights_ = std::make_unique<const ByteWeights>(allocator, any_size_, operands);
  const ConvGeometry& g = any_size_.geometry;
  padded_channels_ = weights_->channels();
  const auto padded = static_cast<size_t>(g.attributes.group * padded_channels_);
  scales_.assign(padded, 0.0f);
  bias_.assign(padded, 0);
  const int64_t own = g.group_out_channels();
  for (int64_t m = 0; m < g.out_channels; ++m) {
    const auto place = static_cast<size_t>(m / own * padded_channels_ + m % own);
    const float both = operands.x_scale * of_channel(operands.w_scales, m);
    scales_[place] = both / operands.y_scale;
    checked::require(std::isfinite(scales_[place]),
                     "x_scale * w_scale / y_scale is not finite in output channel " + std::to_string(m));
    if (operands.bias != nullptr) bias_[place] = operands.bias[m];
  }
  window_start_ = bias_;
  for (int64_t b = 0; b < any_size_.num_blocks(); ++b) {
    int32_t* const sums = window_start_.data() + any_size_.group_of(b) * padded_channels_;
    for (int64_t tap = 0; tap < any_size_.taps_per_block(); ++tap) {
      const int32_t* const start = weights_->start(b, tap, 0);
      for (int64_t m = 0; m < padded_channels_; ++m) {
        sums[m] = static_cast<int32_t>(static_cast<uint32_t>(sums[m]) + static_cast<uint32_t>(start[m]));
      }
    }
  }
  const int32_t least = smallest(operands.y_signed);
  low_ = static_cast<float>(least - y_zero_point_);
  high_ = static_cast<float>(least + 255 - y_zero_point_);
}

QuantisedPlan::~QuantisedPlan() = default;

Blocking QuantisedPlan::blocking(int64_t batch, int64_t height, int64_t width) const {
  const ConvGeometry& g = any_size_.geometry;
  return Blocking::make(ConvGeometry::make(attributes_, batch, g.in_channels, height, width, g.out_channels));
}

}  // namespace reuse
