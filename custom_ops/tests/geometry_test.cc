// Shapes of convolutions.
#include "reuse/geometry.h"

#include <stdexcept>

#include "test.h"

namespace reuse::testing {
namespace {

TEST(auto_pad_is_resolved_as_in_onnx) {
  ConvAttributes a;
  a.kernel_h = a.kernel_w = 3;
  a.stride_h = a.stride_w = 2;
  a.auto_pad = AutoPad::kSameUpper;
  const ConvGeometry upper = ConvGeometry::make(a, 1, 1, 6, 5, 1);
  EXPECT(upper.out_h == 3 && upper.out_w == 3);
  EXPECT(upper.attributes.pad_top == 0 && upper.attributes.pad_bottom == 1);
  EXPECT(upper.attributes.pad_left == 1 && upper.attributes.pad_right == 1);
  a.auto_pad = AutoPad::kSameLower;
  EXPECT(ConvGeometry::make(a, 1, 1, 6, 5, 1).attributes.pad_top == 1);
  a.auto_pad = AutoPad::kValid;
  EXPECT(ConvGeometry::make(a, 1, 1, 6, 5, 1).out_h == 2);
}

TEST(blocks_share_out_columns_or_channels) {
  ConvAttributes a;
  a.kernel_h = a.kernel_w = 3;
  a.group = 2;
  a.sub_vector_length = 4;
  a.layout = Layout::kPatch;
  const Blocking patch = Blocking::make(ConvGeometry::make(a, 2, 10, 5, 5, 4));
  EXPECT(patch.group_width == 45 && patch.blocks_per_group == 12 && patch.num_blocks() == 24);
  EXPECT(patch.block_length(11) == 1 && patch.block_length(12) == 4 && patch.vectors == 18);
  a.layout = Layout::kChannel;
  const Blocking channel = Blocking::make(ConvGeometry::make(a, 2, 10, 5, 5, 4));
  EXPECT(channel.blocks_per_group == 2 && channel.block_length(1) == 1 && channel.vectors == 50);
}

TEST(impossible_convolutions_are_named) {
  ConvAttributes a;
  a.kernel_h = a.kernel_w = 3;
  expect_throw<std::invalid_argument>("smaller than the kernel", [&] { ConvGeometry::make(a, 1, 1, 2, 5, 1); });
  a.stride_w = 0;
  expect_throw<std::invalid_argument>("strides is 0", [&] { ConvGeometry::make(a, 1, 1, 5, 5, 1); });
  a.stride_w = 1;
  a.group = 2;
  expect_throw<std::invalid_argument>("group 2 does not divide", [&] { ConvGeometry::make(a, 1, 3, 5, 5, 2); });
  a.group = 1;
  a.sub_vector_length = 4;
  a.layout = Layout::kChannel;
  expect_throw<std::invalid_argument>("only 3 channels", [&] { Blocking::make(ConvGeometry::make(a, 1, 3, 5, 5, 2)); });
  a.sub_vector_length = 1;
  expect_throw<std::invalid_argument>("2^31-1",
                                      [&] { Blocking::make(ConvGeometry::make(a, 1 << 10, 1, 1 << 12, 1 << 12, 1)); });
  expect_throw<std::invalid_argument>("layout is 'rows'", [] { parse_layout("rows"); });
}

}  // namespace
}  // namespace reuse::testing
