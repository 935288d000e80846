// Shapes of convolutions.
#include "reuse/geometry.h"

#include <limits>
#include <stdexcept>

#include "reuse/checked.h"
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

TEST(numbers_near_2_to_the_31_and_beyond_are_refused_with_what_is_allowed) {
  constexpr int64_t k2To31 = int64_t{1} << 31;
  for (const int64_t value : {k2To31 - 1, k2To31, 2 * k2To31 + 3, std::numeric_limits<int64_t>::max()}) {
    const std::string allowed = " is " + std::to_string(value) + ", must be at most 1073741824";
    ConvAttributes a;
    for (int64_t ConvAttributes::* member :
         {&ConvAttributes::kernel_h, &ConvAttributes::stride_w, &ConvAttributes::pad_top, &ConvAttributes::pad_right,
          &ConvAttributes::dilation_h, &ConvAttributes::group, &ConvAttributes::sub_vector_length}) {
      ConvAttributes wrong;
      wrong.*member = value;
      expect_throw<std::invalid_argument>(allowed.c_str(), [&] { wrong.check(); });
    }
    expect_throw<std::invalid_argument>(allowed.c_str(), [&] { ConvGeometry::make(a, value, 1, 1, 1, 1); });
    expect_throw<std::invalid_argument>(allowed.c_str(), [&] { ConvGeometry::make(a, 1, 1, 1, value, 1); });
  }
}

TEST(numbers_that_are_large_together_do_not_wrap_around) {
  constexpr int64_t kLarge = int64_t{1} << 30;
  ConvAttributes padded;  // to an output of (2^31 + 1)^2 pixels
  padded.pad_top = padded.pad_left = padded.pad_bottom = padded.pad_right = kLarge;
  expect_throw<std::invalid_argument>("the output is too large", [&] { ConvGeometry::make(padded, 1, 1, 1, 1, 1); });
  expect_throw<std::invalid_argument>("the output is too large", [&] { ConvGeometry::make(padded, 0, 1, 1, 1, 1); });
  ConvAttributes wide;  // one output pixel, of all the padding
  wide.kernel_h = wide.kernel_w = kLarge;
  wide.pad_top = wide.pad_left = kLarge - 1;
  wide.layout = Layout::kPatch;
  expect_throw<std::invalid_argument>("row is too large", [&] { ConvGeometry::make(wide, 1, 16, 1, 1, 1); });
  EXPECT(checked::product({kLarge, kLarge, kLarge, 0}, "nothing") == 0);
}

TEST(weights_do_not_depend_on_dilations_and_pads) {
  constexpr int64_t kLarge = int64_t{1} << 30;
  ConvAttributes a;
  a.kernel_h = a.kernel_w = 3;
  a.dilation_h = a.dilation_w = kLarge;
  a.pad_top = a.pad_bottom = kLarge;
  a.layout = Layout::kPatch;
  a.sub_vector_length = 4;
  const Blocking blocking = Blocking::of_any_size(a, 2, 5);
  EXPECT(blocking.num_blocks() == 5 && blocking.group_width == 18 && blocking.geometry.out_channels == 5);
}

}  // namespace
}  // namespace reuse::testing
