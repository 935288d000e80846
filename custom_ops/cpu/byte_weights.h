// Weights of a quantised convolution in the order that multiplying vectors of bytes needs.
#pragma once

#include <vector>

#include "reuse/quantised.h"

namespace reuse {

// Throws std::invalid_argument for scales that make no sense, or for as many as there are no channels.
void check_scales(const QuantisedOperands& operands);

// Of a vector with 1 or M elements.
template <typename T>
T of_channel(const std::vector<T>& values, int64_t channel) {
  return values[values.size() == 1 ? 0 : static_cast<size_t>(channel)];
}

// Weights are signed bytes here: uint8 values are taken 128 lower, and so are their zero points. Output channels of a
// group are padded with zeros to whole vectors of simd::kLanes. A block's panel has the columns [taps per block, those
// channels], as strips of kLanes columns, each of [depth / 4] of [kLanes, 4] bytes; zeros beyond the block's length.
class ByteWeights {
 public:
  ByteWeights(Allocator& allocator, const Blocking& blocking, const IntegerOperands& operands);

  int64_t channels() const { return channels_; }  // of a group, with padding
  // Bytes of a row of vectors: L and zeros up to a multiple of 16.
  int64_t row_bytes() const { return depth_; }
  int64_t strip_bytes() const { return depth_ * kLanes; }
  // The strip of a block, a tap and channels from `channel` on.
  const int8_t* strip(int64_t block, int64_t tap, int64_t channel) const {
    return panels_.data() + ((block * taps_ + tap) * channels_ + channel) * depth_;
  }
  // What a unit of x's zero point adds to a window's sums, by group: bytes are multiplied as they are, and the weights
  // of a window are the same for all.
  const std::vector<int32_t>& of_zero_point() const { return of_zero_point_; }
  // Zero points of the channels of a block's group; null if all are zero. Products lack them: a vector's sum times the
  // zero point is to be subtracted.
  const int32_t* zero_points(int64_t group) const {
    return zero_points_.empty() ? nullptr : zero_points_.data() + group * channels_;
  }

 private:
  static constexpr int64_t kLanes = 16;

  int64_t channels_, depth_, taps_;
  Buffer<int8_t> panels_;
  std::vector<int32_t> of_zero_point_, zero_points_;
};

}  // namespace reuse
