#include "reuse/geometry.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "reuse/checked.h"
#include "reuse/text.h"

namespace reuse {
namespace {

using checked::require;
using checked::require_extent;

int64_t output_size(int64_t size, int64_t kernel, int64_t stride, int64_t dilation, AxisPads pads, const char* axis) {
  const int64_t extent = (kernel - 1) * dilation + 1;
  const int64_t padded = size + pads.begin + pads.end;
  if (padded < extent) {
    throw std::invalid_argument(std::string(axis) + " " + std::to_string(size) +
                                " with its padding is smaller than the kernel, which spans " + std::to_string(extent));
  }
  return (padded - extent) / stride + 1;
}

}  // namespace

AxisPads same_padding(int64_t size, int64_t kernel, int64_t stride, int64_t dilation, bool upper) {
  const int64_t output = (size + stride - 1) / stride;
  const int64_t total = std::max<int64_t>(0, (output - 1) * stride + (kernel - 1) * dilation + 1 - size);
  const int64_t small = total / 2, large = total - total / 2;
  return upper ? AxisPads{small, large} : AxisPads{large, small};
}

Layout parse_layout(const std::string& name) {
  if (name == "patch") return Layout::kPatch;
  if (name == "channel") return Layout::kChannel;
  throw std::invalid_argument("layout is '" + readable(name) + "', must be patch or channel");
}

AutoPad parse_auto_pad(const std::string& name) {
  if (name.empty() || name == "NOTSET") return AutoPad::kNotSet;
  if (name == "SAME_UPPER") return AutoPad::kSameUpper;
  if (name == "SAME_LOWER") return AutoPad::kSameLower;
  if (name == "VALID") return AutoPad::kValid;
  throw std::invalid_argument("auto_pad is '" + readable(name) + "', must be NOTSET, SAME_UPPER, SAME_LOWER or VALID");
}

DataOrder order_of_input_perm(const std::vector<int64_t>& perm) {
  if (perm == std::vector<int64_t>{0, 1, 2, 3}) return DataOrder::kNchw;
  if (perm == std::vector<int64_t>{0, 3, 1, 2}) return DataOrder::kNhwc;
  throw std::invalid_argument("input_perm must be 0,1,2,3 (X is NCHW) or 0,3,1,2 (X is NHWC)");
}

DataOrder order_of_output_perm(const std::vector<int64_t>& perm) {
  if (perm == std::vector<int64_t>{0, 1, 2, 3}) return DataOrder::kNchw;
  if (perm == std::vector<int64_t>{0, 2, 3, 1}) return DataOrder::kNhwc;
  throw std::invalid_argument("output_perm must be 0,1,2,3 (Y is NCHW) or 0,2,3,1 (Y is NHWC)");
}

void ConvAttributes::check() const {
  require_extent(kernel_h, 1, "kernel_shape");
  require_extent(kernel_w, 1, "kernel_shape");
  require_extent(stride_h, 1, "strides");
  require_extent(stride_w, 1, "strides");
  require_extent(dilation_h, 1, "dilations");
  require_extent(dilation_w, 1, "dilations");
  for (int64_t pad : {pad_top, pad_left, pad_bottom, pad_right}) require_extent(pad, 0, "pads");
  require_extent(group, 1, "group");
  require_extent(sub_vector_length, 1, "sub_vector_length");
  require(layout == Layout::kChannel || input_order == DataOrder::kNchw, "an input_perm for NHWC needs layout channel");
}

ConvGeometry ConvGeometry::make(const ConvAttributes& attributes, int64_t batch, int64_t in_channels, int64_t in_h,
                                int64_t in_w, int64_t out_channels) {
  attributes.check();
  require_extent(batch, 0, "batch size");
  require_extent(in_channels, 1, "number of input channels");
  require_extent(in_h, 0, "input height");
  require_extent(in_w, 0, "input width");
  require_extent(out_channels, 1, "number of output channels");
  require(in_channels % attributes.group == 0, "group " + std::to_string(attributes.group) + " does not divide the " +
                                                   std::to_string(in_channels) + " input channels");
  require(out_channels % attributes.group == 0, "group " + std::to_string(attributes.group) + " does not divide the " +
                                                    std::to_string(out_channels) + " output channels");
  ConvGeometry g;
  g.attributes = attributes;
  g.batch = batch;
  g.in_channels = in_channels;
  g.in_h = in_h;
  g.in_w = in_w;
  g.out_channels = out_channels;
  ConvAttributes& a = g.attributes;
  if (a.auto_pad != AutoPad::kNotSet) {
    AxisPads vertical{0, 0}, horizontal{0, 0};
    if (a.auto_pad != AutoPad::kValid) {
      const bool upper = a.auto_pad == AutoPad::kSameUpper;
      vertical = same_padding(in_h, a.kernel_h, a.stride_h, a.dilation_h, upper);
      horizontal = same_padding(in_w, a.kernel_w, a.stride_w, a.dilation_w, upper);
    }
    a.pad_top = vertical.begin;
    a.pad_bottom = vertical.end;
    a.pad_left = horizontal.begin;
    a.pad_right = horizontal.end;
    a.auto_pad = AutoPad::kNotSet;
  }
  g.out_h = output_size(in_h, a.kernel_h, a.stride_h, a.dilation_h, {a.pad_top, a.pad_bottom}, "input height");
  g.out_w = output_size(in_w, a.kernel_w, a.stride_w, a.dilation_w, {a.pad_left, a.pad_right}, "input width");
  // So that whatever is made of these numbers stays in range, of one image also where the batch is empty.
  checked::product({g.out_h, g.out_w}, "the output");
  checked::product({g.taps(), in_channels}, "the unfolded input's row");
  checked::product({batch, in_channels, in_h, in_w}, "the input");
  checked::product({batch, out_channels, g.out_h, g.out_w}, "the output");
  return g;
}

Blocking Blocking::make(const ConvGeometry& geometry) {
  Blocking b;
  b.geometry = geometry;
  const bool patch = geometry.attributes.layout == Layout::kPatch;
  b.group_width = patch ? geometry.columns() : geometry.group_in_channels();
  const int64_t length = geometry.attributes.sub_vector_length;
  require(length <= b.group_width, "sub_vector_length is " + std::to_string(length) + ", but a group has only " +
                                       std::to_string(b.group_width) + (patch ? " columns" : " channels"));
  b.blocks_per_group = (b.group_width + length - 1) / length;
  const int64_t pixels = patch ? geometry.out_pixels() : geometry.in_pixels();
  require(pixels == 0 || geometry.batch <= std::numeric_limits<int32_t>::max() / pixels,
          "the input has more neuron vectors per block than 2^31-1; run it in smaller batches");
  b.vectors = geometry.batch * pixels;
  checked::product({b.num_blocks(), length, b.vectors}, "the unfolded input");
  return b;
}

Blocking Blocking::of_any_size(const ConvAttributes& attributes, int64_t in_channels, int64_t out_channels) {
  attributes.check();
  // Neither weights nor parameters depend on where the taps lie: of neighbouring ones the smallest input is convolved.
  ConvAttributes any_size = attributes;
  any_size.auto_pad = AutoPad::kNotSet;
  any_size.dilation_h = any_size.dilation_w = 1;
  any_size.pad_top = any_size.pad_left = any_size.pad_bottom = any_size.pad_right = 0;
  return make(ConvGeometry::make(any_size, 1, in_channels, any_size.kernel_h, any_size.kernel_w, out_channels));
}

ColumnRange columns_inside(int64_t left, int64_t stride, int64_t in_w, int64_t columns) {
  const int64_t begin = std::min(columns, left >= 0 ? 0 : (stride - 1 - left) / stride);
  const int64_t end = left >= in_w ? 0 : (in_w - 1 - left) / stride + 1;
  return {begin, std::clamp(end, begin, columns)};
}

}  // namespace reuse
