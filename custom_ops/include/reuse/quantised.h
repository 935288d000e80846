// Operators QLinearReuseConv and ReuseConvInteger (docs/operators.md): convolutions of bytes whose equal vectors, or
// those with equal codes, are multiplied once. The result of the one is bytes, that of the other floats.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "reuse/plan.h"

namespace reuse {

// Bytes as they are in memory.
struct ByteTensor {
  const void* values;
  bool is_signed;
};

// The constant inputs of both. Zero points of the weights, and scales, have 1 or M elements.
struct IntegerOperands {
  int64_t in_channels, out_channels;
  ByteTensor weights;  // [M, Ic/group, kh, kw]
  std::vector<int32_t> w_zero_points;
};

// Those of QLinearReuseConv.
struct QuantisedOperands : IntegerOperands {
  bool x_signed, y_signed;
  float x_scale, y_scale;
  int32_t x_zero_point, y_zero_point;
  std::vector<float> w_scales;
  const int32_t* bias;  // [M], or null
};

class ByteHash;
class ByteWeights;

// A layer for inputs of any size: all but x checked and brought into the order that runs need.
class QuantisedPlan {
 public:
  // Of scope batch or image. Throws std::invalid_argument for what makes no sense.
  QuantisedPlan(Allocator& allocator, const ConvAttributes& attributes, Scope scope, const QuantisedOperands& operands);
  // Of ReuseConvInteger, whose other operands may differ from run to run.
  QuantisedPlan(Allocator& allocator, const ConvAttributes& attributes, Scope scope, const IntegerOperands& operands);

  // Returns the plan of a run, which shares the weights. Scales have 1 or M elements; `bias` is [M], or null.
  QuantisedPlan with(bool x_signed, int32_t x_zero_point, const std::vector<float>& scales, const float* bias) const;

  int64_t in_channels() const { return any_size_.geometry.in_channels; }
  int64_t out_channels() const { return any_size_.geometry.out_channels; }
  Blocking blocking(int64_t batch, int64_t height, int64_t width) const;

  Scope scope() const { return scope_; }
  // What turns a byte of x into an unsigned one: int8 values are taken 128 higher, and so is the zero point.
  uint8_t x_flip() const { return x_flip_; }
  uint8_t x_zero_point() const { return x_zero_point_; }  // as a byte of x
  const ByteWeights& weights() const { return *weights_; }
  // What a window's sums begin with, by channel of the group: the bias, and what zero points make of all weights.
  const int32_t* window_start(int64_t group) const { return window_start_.data() + group * padded_channels_; }
  int64_t y_bytes() const { return y_bytes_; }  // of an element
  // Makes y of the sums [windows, stride] of `count` channels of a group, from `channel` on; `places` are the pixels.
  void write(int64_t group, int64_t channel, int64_t count, const int32_t* sums, int64_t stride, int64_t windows,
             const int32_t* places, uint8_t* y) const;

 private:
  size_t place_of(int64_t channel) const;  // by group, padded
  void start_windows(bool x_signed, int32_t x_zero_point);

  ConvAttributes attributes_;
  Scope scope_;
  Blocking any_size_;
  uint8_t x_flip_ = 0, x_zero_point_ = 0;
  int64_t y_bytes_;
  float low_ = 0.0f, high_ = 0.0f;  // of bytes
  int32_t y_zero_point_ = 0;
  int64_t padded_channels_;
  std::vector<float> scales_, float_bias_;  // by group, padded to whole vectors
  std::vector<int32_t> window_start_;
  std::shared_ptr<const ByteWeights> weights_;
};

// How sums become bytes where they are floats.
class ByteOutput {
 public:
  // `fitted_bias` [M] takes the place of the operands' bias, unless it is null. Throws std::invalid_argument for scales
  // and biases that make no sense.
  ByteOutput(const QuantisedOperands& operands, const float* fitted_bias);

  // Makes y of sums [pixels, stride] of `count` channels from `channel` on; `y` is the first pixel's.
  void write(int64_t channel, int64_t count, const float* sums, int64_t stride, int64_t pixels, uint8_t* y) const;

 private:
  int64_t channels_;
  std::vector<float> bias_;  // padded to whole vectors
  float low_, high_, inverse_;
  int32_t y_zero_point_;
};

// What scope static needs beside: trees, their centroids, and weights and bias if they were fitted, else null.
struct StaticByteOperands {
  ReuseAttributes attributes;
  HashParameters parameters;
  HashParameterSizes parameter_sizes;
  const float* centroids;
  int64_t centroids_size;
  const float* fitted_weights;
  const float* fitted_bias;
};

// A QLinearReuseConv of scope static: a ReuseConv of what its bytes stand for.
class StaticBytePlan {
 public:
  // Throws std::invalid_argument for what makes no sense.
  StaticBytePlan(Allocator& allocator, const QuantisedOperands& operands, const StaticByteOperands& given);

  int64_t in_channels() const { return plan_.in_channels(); }
  Blocking blocking(int64_t batch, int64_t height, int64_t width) const { return plan_.blocking(batch, height, width); }
  const StaticTables& tables() const { return *plan_.static_tables(); }
  const ByteHash& hash() const { return *hash_; }
  const ByteOutput& output() const { return *output_; }

 private:
  ReusePlan plan_;
  std::shared_ptr<const ByteHash> hash_;
  std::shared_ptr<const ByteOutput> output_;
};

// What a hash and clusters of a run need beside.
struct CodedByteOperands {
  ConvAttributes conv;
  Scope scope;
  HashAttributes hash;
  HashParameters parameters;
  HashParameterSizes parameter_sizes;
};

// A QLinearReuseConv whose vectors share a cluster of the batch or of the image if their codes are equal.
class CodedBytePlan {
 public:
  // Throws std::invalid_argument for what makes no sense.
  CodedBytePlan(Allocator& allocator, const QuantisedOperands& operands, const CodedByteOperands& given);

  int64_t in_channels() const { return any_size_.geometry.in_channels; }
  int64_t out_channels() const { return any_size_.geometry.out_channels; }
  Blocking blocking(int64_t batch, int64_t height, int64_t width) const;

  Scope scope() const { return scope_; }
  int64_t num_codes() const { return num_codes_; }
  const ByteHash& hash() const { return *hash_; }
  const ByteWeights& weights() const { return *weights_; }
  const ByteOutput& output() const { return *output_; }
  // What products of a block, a tap and channels from `channel` on begin with, so that bytes count from the zero point.
  const int32_t* start(int64_t block, int64_t tap, int64_t channel) const;
  // What a product's unit stands for.
  float product_scale(int64_t channel) const { return product_scales_[static_cast<size_t>(channel)]; }

 private:
  void find_starts(uint8_t zero_point);

  ConvAttributes attributes_;
  Scope scope_;
  Blocking any_size_;
  int64_t num_codes_;
  std::shared_ptr<const ByteWeights> weights_;
  std::shared_ptr<const ByteHash> hash_;
  std::shared_ptr<const ByteOutput> output_;
  std::vector<int32_t> starts_;  // by block, tap and channel, padded
  std::vector<float> product_scales_;
};

// Computes y [N, Oh, Ow, M] of x [N, H, W, Ic]. The stages: vectors to codes (encode), equal ones to ids (group),
// distinct ones to tables of int32, or distinct windows of them to sums (multiply), sums to y (assemble). `state` is
// the node's, of an incremental one; null for others.
void qlinear_reuse_conv(const QuantisedPlan& plan, ReuseState* state, const Blocking& blocking, Workspace& workspace,
                        const uint8_t* x, uint8_t* y);
void qlinear_reuse_conv(const StaticBytePlan& plan, ReuseState* state, const Blocking& blocking, Workspace& workspace,
                        const uint8_t* x, uint8_t* y);
// Of clusters of a run, which has no state.
void qlinear_reuse_conv(const CodedBytePlan& plan, ReuseState* state, const Blocking& blocking, Workspace& workspace,
                        const uint8_t* x, uint8_t* y);

}  // namespace reuse
