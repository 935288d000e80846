// Pool against windows read one element at a time.
#include "reuse/pool.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "support.h"
#include "test.h"

namespace reuse::testing {
namespace {

struct PoolProblem {
  PoolAttributes attributes;
  int64_t batch, in_h, in_w, channels;
};

PoolProblem random_pool(std::mt19937& random) {
  const auto draw = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  const PoolAttributes a = random_pool_attributes(random);
  return {a, draw(1, 3), draw(a.kernel_h, a.kernel_h + 8), draw(a.kernel_w, a.kernel_w + 8), draw(1, 90)};
}

// One output, in float64.
double window(const PoolProblem& p, const std::vector<float>& x, int64_t image, int64_t top, int64_t left,
              int64_t channel) {
  const PoolAttributes& a = p.attributes;
  double sum = 0.0, largest = -std::numeric_limits<double>::infinity();
  int64_t count = 0;
  for (int64_t i = std::max<int64_t>(top, 0); i < std::min(top + a.kernel_h, p.in_h); ++i) {
    for (int64_t j = std::max<int64_t>(left, 0); j < std::min(left + a.kernel_w, p.in_w); ++j) {
      const double value = x[static_cast<size_t>(((image * p.in_h + i) * p.in_w + j) * p.channels + channel)];
      sum += value;
      largest = std::max(largest, value);
      ++count;
    }
  }
  if (a.mode == PoolMode::kMax) return largest;
  return sum / static_cast<double>(a.count_include_pad ? a.kernel_h * a.kernel_w : count);
}

TEST(pool_equals_its_windows) {
  for (int seed = 0; seed < 200; ++seed) {
    std::mt19937 random(static_cast<unsigned>(seed));
    const PoolProblem p = random_pool(random);
    const PoolAxis height = pool_axis(p.attributes, 0, p.in_h), width = pool_axis(p.attributes, 1, p.in_w);
    std::vector<float> x(static_cast<size_t>(p.batch * p.in_h * p.in_w * p.channels));
    std::normal_distribution<float> distribution;
    for (float& value : x) value = distribution(random);
    std::vector<float> y = poisoned<float>(p.batch * height.out * width.out * p.channels);
    PoisonedAllocator allocator;
    Threads parallel(1 + seed % 3);
    Workspace workspace(allocator, parallel);
    pool(workspace, p.attributes, p.batch, height, width, p.channels, x.data(), y.data());
    for (size_t index = 0; index < y.size(); ++index) {
      const int64_t i = static_cast<int64_t>(index), pixel = i / p.channels;
      const int64_t row = pixel / width.out % height.out, image = pixel / (width.out * height.out);
      const double expected = window(p, x, image, row * p.attributes.stride_h - p.attributes.pad_top,
                                     pixel % width.out * p.attributes.stride_w - p.attributes.pad_left, i % p.channels);
      EXPECT(std::fabs(y[index] - expected) <= 1e-5, << "at " << i << ", seed " << seed);
    }
  }
}

PoolAttributes square(int64_t kernel, int64_t stride) {
  PoolAttributes a;
  a.kernel_h = a.kernel_w = kernel;
  a.stride_h = a.stride_w = stride;
  return a;
}

TEST(pool_sizes_are_those_of_onnx) {
  PoolAttributes a = square(3, 2);
  EXPECT(pool_axis(a, 0, 8).out == 3);
  a.ceil_mode = true;
  EXPECT(pool_axis(a, 0, 8).out == 4);
  // The last of three windows would begin in the padding.
  a = square(2, 2);
  a.pad_top = a.pad_bottom = 1;
  a.ceil_mode = true;
  EXPECT(pool_axis(a, 0, 3).out == 2);
  EXPECT(pool_axis(square(3, 1), 1, 3).out == 1);
  a = square(3, 2);
  a.auto_pad = AutoPad::kSameUpper;
  EXPECT(pool_axis(a, 0, 6).out == 3 && pool_axis(a, 0, 6).begin_pad == 0);
  a.auto_pad = AutoPad::kSameLower;
  EXPECT(pool_axis(a, 0, 6).begin_pad == 1);
}

TEST(pool_sizes_of_small_inputs_are_those_of_onnxruntime) {
  for (const bool ceil_mode : {false, true}) {
    PoolAttributes a = square(5, 3);
    a.ceil_mode = ceil_mode;
    EXPECT(pool_axis(a, 0, 4).out == 1 && pool_axis(a, 0, 3).out == 1);
    expect_throw<std::invalid_argument>("input height 2", [&] { pool_axis(a, 0, 2); });
    a.stride_h = 1;
    expect_throw<std::invalid_argument>("input height 4", [&] { pool_axis(a, 0, 4); });
  }
  PoolAttributes a = square(5, 3);
  a.count_include_pad = true;
  expect_throw<std::invalid_argument>("count_include_pad", [&] { pool_axis(a, 0, 4); });
}

TEST(impossible_pools_are_refused) {
  expect_throw<std::invalid_argument>("input height 3", [&] { pool_axis(square(4, 1), 0, 3); });
  expect_throw<std::invalid_argument>("input width 0", [&] { pool_axis(square(4, 1), 1, 0); });
  expect_throw<std::invalid_argument>("kernel_shape is 0", [&] { square(0, 1).check(); });
  expect_throw<std::invalid_argument>("strides is 0", [&] { square(1, 0).check(); });
  PoolAttributes a = square(2, 1);
  a.pad_left = 2;
  expect_throw<std::invalid_argument>("smaller than the kernel", [&] { a.check(); });
  a = square(2, 1);
  a.pad_left = -1;
  expect_throw<std::invalid_argument>("pads is -1", [&] { a.check(); });
  a = square(2, 1);
  a.ceil_mode = a.count_include_pad = true;
  expect_throw<std::invalid_argument>("count_include_pad", [&] { a.check(); });
}

}  // namespace
}  // namespace reuse::testing
