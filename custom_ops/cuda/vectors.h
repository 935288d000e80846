// A convolution as the kernels see it, and where the elements of neuron vectors lie (docs/operators.md, Terms).
#pragma once

#include <cstdint>

#include "execution.h"
#include "numbers.h"

namespace reuse::cuda {

// The numbers of reuse/geometry.h's Blocking that kernels need; made by make_shape.
struct Shape {
  int32_t batch, in_channels, in_h, in_w, out_channels, out_h, out_w;
  int32_t kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
  int32_t group, group_in_channels, group_out_channels;
  int32_t length;  // L
  int32_t group_width, blocks_per_group, num_blocks;
  int32_t vectors;         // V, per block
  int32_t taps;            // table rows of a block that are added for one output pixel
  int32_t rows;            // output pixels of the whole batch
  bool patch;              // layout
  bool input_pixel_major;  // orders of X and Y
  bool output_pixel_major;

  REUSE_BOTH int32_t in_pixels() const { return in_h * in_w; }
  REUSE_BOTH int32_t out_pixels() const { return out_h * out_w; }
  REUSE_BOTH int32_t group_of(int32_t block) const { return block / blocks_per_group; }
  REUSE_BOTH int32_t block_start(int32_t block) const { return block % blocks_per_group * length; }
  REUSE_BOTH int32_t block_length(int32_t block) const { return smaller(length, group_width - block_start(block)); }
  REUSE_BOTH int64_t table_width() const { return static_cast<int64_t>(taps) * group_out_channels; }
};

// An output pixel of an image, and where its window begins.
struct OutputPixel {
  int32_t image, row, column;  // of the input, before taps are added

  REUSE_BOTH static OutputPixel of(const Shape& s, int32_t index) {
    const int32_t image = index / s.out_pixels(), pixel = index % s.out_pixels();
    return {image, pixel / s.out_w * s.stride_h - s.pad_top, pixel % s.out_w * s.stride_w - s.pad_left};
  }
};

// The output pixel along one axis whose tap reads at `position`, counted from where the first window's tap reads; or
// -1.
REUSE_BOTH inline int32_t window_along(int32_t position, int32_t stride, int32_t count) {
  if (position < 0) return -1;
  if (stride != 1) {
    if (position % stride != 0) return -1;
    position /= stride;
  }
  return position < count ? position : -1;
}

// The output pixel of an image whose tap (row, column of the kernel) reads a pixel of the input, or -1.
REUSE_BOTH inline int32_t window_at(const Shape& s, int32_t row, int32_t column, int32_t tap_row, int32_t tap_column) {
  const int32_t y = window_along(row + s.pad_top - tap_row * s.dilation_h, s.stride_h, s.out_h);
  const int32_t x = window_along(column + s.pad_left - tap_column * s.dilation_w, s.stride_w, s.out_w);
  return y < 0 || x < 0 ? -1 : y * s.out_w + x;
}

// One neuron vector in an input tensor.
template <typename T>
class NeuronVector {
 public:
  REUSE_BOTH NeuronVector(const Shape& shape, const T* x, int32_t block, int32_t vector) : shape_(shape) {
    length_ = shape.block_length(block);
    start_ = shape.block_start(block);
    const int64_t channel = static_cast<int64_t>(shape.group_of(block)) * shape.group_in_channels;
    if (shape.patch) {
      const OutputPixel pixel = OutputPixel::of(shape, vector);
      row_ = pixel.row;
      column_ = pixel.column;
      first_ = x + (pixel.image * static_cast<int64_t>(shape.in_channels) + channel) * shape.in_pixels();
      return;
    }
    if (shape.input_pixel_major) {
      first_ = x + static_cast<int64_t>(vector) * shape.in_channels + channel + start_;
      step_ = 1;
    } else {
      const int32_t image = vector / shape.in_pixels(), pixel = vector % shape.in_pixels();
      first_ = x + (image * static_cast<int64_t>(shape.in_channels) + channel + start_) * shape.in_pixels() + pixel;
      step_ = shape.in_pixels();
    }
  }

  // Elements of the block's own, at most L.
  REUSE_BOTH int32_t length() const { return length_; }

  REUSE_BOTH float operator[](int32_t l) const { return to_float(stored(l)); }

  // The element as it is in memory.
  REUSE_BOTH T stored(int32_t l) const {
    if (!shape_.patch) return first_[l * step_];
    const int32_t column = start_ + l, tap = column / shape_.group_in_channels;
    const int32_t row = row_ + tap / shape_.kernel_w * shape_.dilation_h;
    const int32_t across = column_ + tap % shape_.kernel_w * shape_.dilation_w;
    if (row < 0 || row >= shape_.in_h || across < 0 || across >= shape_.in_w) return T{};
    const int64_t channel = column % shape_.group_in_channels;
    return first_[channel * shape_.in_pixels() + static_cast<int64_t>(row) * shape_.in_w + across];
  }

  // The same for an element that may be padding of a short block.
  REUSE_BOTH float padded(int32_t l) const { return l < length_ ? (*this)[l] : 0.0f; }

 private:
  const Shape& shape_;
  const T* first_;
  int64_t step_ = 0;
  int32_t length_, start_;
  int32_t row_ = 0, column_ = 0;  // layout patch: the window's corner
};

}  // namespace reuse::cuda
