// Shapes of a convolution, of its unfolded input, and of the blocks of neuron vectors cut out of it.
// The definitions are those of docs/operators.md; the Python twin is reuse_compiler/reuse/geometry.py.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace reuse {

enum class Layout { kPatch, kChannel };
enum class AutoPad { kNotSet, kSameUpper, kSameLower, kValid };
// Order of an image tensor in memory: [N, channels, H, W] or pixel-major [N, H, W, channels].
enum class DataOrder { kNchw, kNhwc };

// Parse the attribute values of docs/operators.md; throw std::invalid_argument with the allowed ones.
Layout parse_layout(const std::string& name);
AutoPad parse_auto_pad(const std::string& name);
// `perm` takes an image in an order to NCHW (`input_perm`); `output_perm` takes NCHW to the order of Y.
DataOrder order_of_input_perm(const std::vector<int64_t>& perm);
DataOrder order_of_output_perm(const std::vector<int64_t>& perm);

struct AxisPads {
  int64_t begin, end;
};

// Pads of one axis for SAME_UPPER (`upper`) or SAME_LOWER.
AxisPads same_padding(int64_t size, int64_t kernel, int64_t stride, int64_t dilation, bool upper);

// The attributes that every operator shares, before the input's size is known.
struct ConvAttributes {
  int64_t kernel_h = 1, kernel_w = 1;
  int64_t stride_h = 1, stride_w = 1;
  int64_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  int64_t dilation_h = 1, dilation_w = 1;
  int64_t group = 1;
  AutoPad auto_pad = AutoPad::kNotSet;
  Layout layout = Layout::kChannel;
  int64_t sub_vector_length = 1;
  // Of X and Y; the staged operators know NCHW only.
  DataOrder input_order = DataOrder::kNchw, output_order = DataOrder::kNchw;

  // Throws std::invalid_argument naming the attribute that no convolution can have.
  void check() const;
};

// A convolution on an input of known size, pads resolved.
struct ConvGeometry {
  ConvAttributes attributes;
  int64_t batch = 0, in_channels = 0, in_h = 0, in_w = 0, out_channels = 0;
  int64_t out_h = 0, out_w = 0;

  // Resolves auto_pad and computes the output size. Throws std::invalid_argument if the input cannot be convolved.
  static ConvGeometry make(const ConvAttributes& attributes, int64_t batch, int64_t in_channels, int64_t in_h,
                           int64_t in_w, int64_t out_channels);

  int64_t group_in_channels() const { return in_channels / attributes.group; }
  int64_t group_out_channels() const { return out_channels / attributes.group; }
  int64_t taps() const { return attributes.kernel_h * attributes.kernel_w; }
  int64_t in_pixels() const { return in_h * in_w; }
  int64_t out_pixels() const { return out_h * out_w; }
  // N and K of the papers.
  int64_t rows() const { return batch * out_pixels(); }
  int64_t columns() const { return taps() * group_in_channels(); }
};

// How the unfolded input is cut into blocks of neuron vectors.
struct Blocking {
  ConvGeometry geometry;
  int64_t group_width = 0;       // columns (patch) or channels (channel) that the blocks of a group share out
  int64_t blocks_per_group = 0;  // ceil(group_width / L)
  int64_t vectors = 0;           // V, per block, for the whole batch

  // Throws std::invalid_argument if L does not fit, or if there are more vectors than an int32 id can number.
  static Blocking make(const ConvGeometry& geometry);
  // One that is right in all that does not depend on the input's size: what is asked of weights and hash parameters.
  static Blocking of_any_size(const ConvAttributes& attributes, int64_t in_channels, int64_t out_channels);

  Layout layout() const { return geometry.attributes.layout; }
  int64_t sub_vector_length() const { return geometry.attributes.sub_vector_length; }
  int64_t num_blocks() const { return blocks_per_group * geometry.attributes.group; }
  int64_t group_of(int64_t block) const { return block / blocks_per_group; }
  int64_t block_start(int64_t block) const { return block % blocks_per_group * sub_vector_length(); }
  int64_t block_length(int64_t block) const {
    const int64_t rest = group_width - block_start(block);
    return rest < sub_vector_length() ? rest : sub_vector_length();
  }
  // The input channel of a block's first element; of layout channel only.
  int64_t first_channel(int64_t block) const {
    return group_of(block) * geometry.group_in_channels() + block_start(block);
  }
  // Table rows of one block that are added for one output pixel.
  int64_t taps_per_block() const { return layout() == Layout::kPatch ? 1 : geometry.taps(); }
  // Of these, neighbours in a row of the kernel.
  int64_t tap_columns() const { return layout() == Layout::kPatch ? 1 : geometry.attributes.kernel_w; }
  // T: elements of a table row.
  int64_t table_width() const { return taps_per_block() * geometry.group_out_channels(); }
};

// Consecutive columns of a row of pixels.
struct ColumnRange {
  int64_t begin, end;
};

// Those of `columns` output pixels at which a tap that reads column `left` of the input at the first one is inside.
ColumnRange columns_inside(int64_t left, int64_t stride, int64_t in_w, int64_t columns);

// Consecutive blocks.
struct BlockRange {
  int64_t begin, end;
};

}  // namespace reuse
