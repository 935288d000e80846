// Operator QLinearReuseConv (docs/operators.md): a convolution of bytes whose equal vectors are multiplied once.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "reuse/operators.h"
#include "reuse/state.h"

namespace reuse {

// Bytes as they are in memory.
struct ByteTensor {
  const void* values;
  bool is_signed;
};

// The constant inputs. Scales and zero points of the weights have 1 or M elements.
struct QuantisedOperands {
  int64_t in_channels, out_channels;
  bool x_signed, y_signed;
  ByteTensor weights;  // [M, Ic/group, kh, kw]
  float x_scale, y_scale;
  int32_t x_zero_point, y_zero_point;
  std::vector<float> w_scales;
  std::vector<int32_t> w_zero_points;
  const int32_t* bias;  // [M], or null
};

class ByteWeights;

// A QLinearReuseConv for inputs of any size: all but x checked and brought into the order that runs need.
class QuantisedPlan {
 public:
  // Of scope batch or image. Throws std::invalid_argument for what makes no sense.
  QuantisedPlan(Allocator& allocator, const ConvAttributes& attributes, Scope scope, const QuantisedOperands& operands);
  ~QuantisedPlan();

  int64_t in_channels() const { return any_size_.geometry.in_channels; }
  Blocking blocking(int64_t batch, int64_t height, int64_t width) const;

  Scope scope() const { return scope_; }
  // What turns a byte of x into an unsigned one: int8 values are taken 128 higher, and so is the zero point.
  uint8_t x_flip() const { return x_flip_; }
  uint8_t x_zero_point() const { return x_zero_point_; }  // as a byte of x
  const ByteWeights& weights() const { return *weights_; }
  // How sums become bytes of y. Scales and biases are by group, padded to whole vectors.
  const float* scales(int64_t group) const { return scales_.data() + group * padded_channels_; }
  const int32_t* bias(int64_t group) const { return bias_.data() + group * padded_channels_; }
  // What the sum of a whole window begins with: the bias, and what zero points make of all weights.
  const int32_t* window_start(int64_t group) const { return window_start_.data() + group * padded_channels_; }
  float low() const { return low_; }
  float high() const { return high_; }
  int32_t y_zero_point() const { return y_zero_point_; }

 private:
  ConvAttributes attributes_;
  Scope scope_;
  Blocking any_size_;
  uint8_t x_flip_, x_zero_point_;
  float low_, high_;
  int32_t y_zero_point_;
  int64_t padded_channels_;
  std::vector<float> scales_;
  std::vector<int32_t> bias_, window_start_;
  std::unique_ptr<const ByteWeights> weights_;
};

// Computes y [N, Oh, Ow, M] of x [N, H, W, Ic]. The stages: vectors to codes (encode), equal vectors to ids (group),
// distinct ones to tables of int32, or distinct windows of them to sums (multiply), sums to bytes (assemble). `state` is
// the node's, of an incremental one; null for others.
void qlinear_reuse_conv(const QuantisedPlan& plan, ReuseState* state, const Blocking& blocking, Workspace& workspace,
                        const uint8_t* x, uint8_t* y);

}  // namespace reuse
