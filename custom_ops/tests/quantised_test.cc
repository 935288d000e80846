// QLinearReuseConv and ReuseConvInteger against a loop over all taps and channels, bit for bit.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>
#include <stdexcept>

#include "quantised_problem.h"
#include "test.h"

namespace reuse::testing {
namespace {

// What the definition of docs/operators.md sums up, an output at a time.
std::vector<int32_t> sums_by_loops(const QuantisedProblem& p, const ConvGeometry& g) {
  const ConvAttributes& a = g.attributes;
  const QuantisedOperands& o = p.operands;
  std::vector<int32_t> sums(static_cast<size_t>(g.rows() * g.out_channels));
  const int64_t channels = g.group_in_channels();
  for (int64_t n = 0; n < g.batch; ++n) {
    for (int64_t m = 0; m < g.out_channels; ++m) {
      const int64_t group = m / g.group_out_channels();
      const auto of = [&](const auto& values) { return values[values.size() == 1 ? 0 : static_cast<size_t>(m)]; };
      for (int64_t pixel = 0; pixel < g.out_pixels(); ++pixel) {
        int64_t sum = p.has_bias ? p.bias[static_cast<size_t>(m)] : 0;
        for (int64_t tap = 0; tap < g.taps(); ++tap) {
          const int64_t row = pixel / g.out_w * a.stride_h - a.pad_top + tap / a.kernel_w * a.dilation_h;
          const int64_t column = pixel % g.out_w * a.stride_w - a.pad_left + tap % a.kernel_w * a.dilation_w;
          if (row < 0 || row >= g.in_h || column < 0 || column >= g.in_w) continue;
          for (int64_t c = 0; c < channels; ++c) {
            const int64_t source = ((n * g.in_h + row) * g.in_w + column) * g.in_channels + group * channels + c;
            const int32_t x = value_of(p.x[static_cast<size_t>(source)], o.x_signed) - o.x_zero_point;
            const uint8_t byte = p.w[static_cast<size_t>((m * channels + c) * g.taps() + tap)];
            sum += x * (value_of(byte, o.weights.is_signed) - of(o.w_zero_points));
          }
        }
        sums[static_cast<size_t>((n * g.out_pixels() + pixel) * g.out_channels + m)] =
            static_cast<int32_t>(static_cast<uint32_t>(sum));
      }
    }
  }
  return sums;
}

Bytes by_loops(const QuantisedProblem& p, const ConvGeometry& g) {
  const QuantisedOperands& o = p.operands;
  Bytes y;
  for (const int32_t sum : sums_by_loops(p, g)) {
    const float scale = o.x_scale * of_channel(o.w_scales, y.size() % p.bias.size()) / o.y_scale;
    const int32_t least = o.y_signed ? -128 : 0;
    const auto low = static_cast<float>(least - o.y_zero_point);
    const auto high = static_cast<float>(least + 255 - o.y_zero_point);
    const float limited = std::min(std::max(static_cast<float>(sum) * scale, low), high);
    y.push_back(static_cast<uint8_t>(static_cast<int32_t>(std::nearbyint(limited)) + o.y_zero_point));
  }
  return y;
}

// Of ReuseConvInteger; in place of the bias of integers there is one of floats.
std::vector<float> floats_by_loops(const QuantisedProblem& p, const ConvGeometry& g, const std::vector<float>& bias) {
  QuantisedProblem unbiased = p;
  unbiased.has_bias = false;
  std::vector<float> y;
  for (const int32_t sum : sums_by_loops(unbiased, g)) {
    const size_t channel = y.size() % p.bias.size();
    const float product = static_cast<float>(sum) * of_channel(p.operands.w_scales, channel);
    y.push_back(bias.empty() ? product : product + bias[channel]);
  }
  return y;
}

// Of one image in the layout channel, summed over blocks.
int64_t distinct_vectors(const QuantisedProblem& p) {
  const int64_t pixels = p.height * p.width, length = p.conv.sub_vector_length, in_channels = p.operands.in_channels;
  std::set<Bytes> distinct;  // with the block in front
  for (int64_t block = 0; block < p.operands.in_channels / length; ++block) {
    for (int64_t pixel = 0; pixel < pixels; ++pixel) {
      Bytes vector{static_cast<uint8_t>(block)};
      for (int64_t c = block * length; c < (block + 1) * length; ++c) {
        vector.push_back(p.x[static_cast<size_t>(pixel * in_channels + c)]);
      }
      distinct.insert(vector);
    }
  }
  return static_cast<int64_t>(distinct.size());
}

}  // namespace

TEST(quantised_random_problems_are_the_convolution) {
  std::mt19937 random(18);
  for (int i = 0; i < 150; ++i) {
    const QuantisedProblem p = random_quantised(random);
    const Bytes expected = by_loops(p, geometry_of(p));
    for (const int64_t threads : {1, 3}) EXPECT(run(p, threads) == expected, << "in problem " << i);
  }
}

TEST(quantised_random_integers_are_the_convolution) {
  std::mt19937 random(19);
  for (int i = 0; i < 100; ++i) {
    QuantisedProblem p = random_quantised(random);
    std::vector<float> bias;
    if (p.has_bias) bias.assign(p.bias.begin(), p.bias.end());
    PoisonedAllocator memory;
    p.operands.weights.values = p.w.data();
    const IntegerOperands& integers = p.operands;
    const QuantisedPlan plan(memory, p.conv, p.scope, integers);
    // Of one plan runs with several zero points and types of x.
    for (const bool is_signed : {p.operands.x_signed, !p.operands.x_signed}) {
      p.operands.x_signed = is_signed;
      p.operands.x_zero_point = value_of(static_cast<uint8_t>(p.operands.x_zero_point + i), is_signed);
      Bytes y;
      run(p, plan.with(is_signed, p.operands.x_zero_point, p.operands.w_scales, bias.empty() ? nullptr : bias.data()),
          memory, 1 + i % 3, y);
      const std::vector<float> expected = floats_by_loops(p, geometry_of(p), bias);
      EXPECT(y.size() == expected.size() * sizeof(float) &&
                 (y.empty() || std::memcmp(y.data(), expected.data(), y.size()) == 0),
             << "in problem " << i);
    }
  }
}

TEST(quantised_sums_wait_for_the_tables_of_further_blocks) {
  ConvAttributes conv;
  conv.kernel_h = conv.kernel_w = 3;
  conv.pad_top = conv.pad_left = conv.pad_bottom = conv.pad_right = 1;
  conv.sub_vector_length = 64;
  QuantisedProblem p = problem_of(conv, 512, 40, 50, 5, 3);
  std::mt19937 random(4);
  Draw draw(random);
  constexpr int64_t kDistinct = 300;  // in each of 8 blocks, whose tables exceed the cache together
  const Bytes palette = draw.bytes(kDistinct * 64);
  for (size_t vector = 0; vector < p.x.size(); vector += 64) {
    std::copy_n(palette.begin() + draw(0, kDistinct - 1) * 64, 64, p.x.begin() + static_cast<std::ptrdiff_t>(vector));
  }
  RunStatistics statistics;
  EXPECT(run(p, 2, &statistics) == by_loops(p, geometry_of(p)));
  EXPECT(statistics.clusters == distinct_vectors(p) && statistics.guarded == 0);
}

TEST(quantised_sums_beyond_32_bits_wrap) {
  ConvAttributes conv;
  conv.sub_vector_length = 33100;
  QuantisedProblem p = problem_of(conv, 33100, 1, 3, 2, 5);
  p.operands.x_signed = p.operands.weights.is_signed = false;
  p.operands.x_zero_point = 0;
  p.operands.w_zero_points = {255};
  std::fill(p.x.begin(), p.x.end(), uint8_t{255});
  std::fill(p.w.begin(), p.w.end(), uint8_t{0});  // products are -65025
  EXPECT(run(p, 1) == by_loops(p, geometry_of(p)));
}

TEST(quantised_equal_vectors_are_multiplied_once) {
  ConvAttributes conv;
  conv.sub_vector_length = 20;
  QuantisedProblem p = problem_of(conv, 40, 9, 30, 5, 6);
  RunStatistics statistics;
  run(p, 1, &statistics);
  EXPECT(statistics.clusters == distinct_vectors(p) && statistics.guarded == 0);
  EXPECT(statistics.vectors == 2 * p.height * p.width && statistics.blocks == 2);
}

namespace {

constexpr uint64_t kStart = 0x9E3779B97F4A7C15, kFactor = 0xBF58476D1CE4E5B9;

uint64_t fold(uint64_t word) {
  const uint64_t mixed = (kStart ^ word) * kFactor;
  return mixed ^ (mixed >> 29);
}

// The word whose fold is given.
uint64_t unfold(uint64_t folded) {
  const uint64_t mixed = folded ^ (folded >> 29) ^ (folded >> 58);
  uint64_t inverse = kFactor;
  for (int i = 0; i < 6; ++i) inverse *= 2 - kFactor * inverse;  // Newton: twice as many bits each time
  return (mixed * inverse) ^ kStart;
}

}  // namespace

TEST(quantised_crafted_fingerprints_spoil_nothing) {
  ConvAttributes conv;
  conv.sub_vector_length = 16;
  QuantisedProblem p = problem_of(conv, 16, 10, 50, 20, 7);
  p.operands.x_signed = false;
  p.operands.x_zero_point = 3;
  const int64_t pixels = p.height * p.width, in_channels = 16;
  const uint64_t target = (fold(0) * kFactor) ^ fold(0);
  for (int64_t pixel = 0; pixel < pixels; ++pixel) {
    const auto first = static_cast<uint64_t>(pixel % 100);
    const uint64_t words[2] = {first, unfold((fold(first) * kFactor) ^ target)};
    for (int64_t c = 0; c < 16; ++c) {
      p.x[static_cast<size_t>(pixel * in_channels + c)] = static_cast<uint8_t>(words[c / 8] >> (c % 8 * 8));
    }
  }
  RunStatistics statistics;
  EXPECT(run(p, 1, &statistics) == by_loops(p, geometry_of(p)));
  EXPECT(statistics.guarded == pixels - pixels / 100, << statistics.guarded);  // all but the first and its equals
  EXPECT(statistics.clusters == statistics.guarded + 1);
}

TEST(quantised_pixels_that_are_not_there_leave_the_bias) {
  ConvAttributes conv;
  conv.pad_top = conv.pad_bottom = 1;
  QuantisedProblem p = problem_of(conv, 1, 0, 2, 3, 8);
  EXPECT(run(p, 1) == by_loops(p, geometry_of(p)));
  p.batch = 0;
  EXPECT(run(p, 1).empty());
}

TEST(quantised_operands_that_make_no_sense_are_refused) {
  ConvAttributes conv;
  const QuantisedProblem good = problem_of(conv, 2, 4, 4, 3, 9);
  PoisonedAllocator memory;
  const auto refused = [&](const char* part, const auto& change) {
    QuantisedProblem p = good;
    change(p.operands);
    expect_throw<std::invalid_argument>(part, [&] { static_cast<void>(p.plan(memory)); });
  };
  for (const float scale :
       {0.0f, -1.0f, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    refused("x_scale holds", [&](QuantisedOperands& o) { o.x_scale = scale; });
    refused("y_scale holds", [&](QuantisedOperands& o) { o.y_scale = scale; });
    refused("w_scale holds", [&](QuantisedOperands& o) { o.w_scales = {1.0f, scale, 1.0f}; });
  }
  refused("is not finite in output channel 0", [](QuantisedOperands& o) {
    o.x_scale = 1e30f;
    o.w_scales = {1e30f};
  });
  refused("w_scale has 2 elements, needs 1 or 3", [](QuantisedOperands& o) { o.w_scales = {1.0f, 1.0f}; });
  refused("w_zero_point has 0 elements", [](QuantisedOperands& o) { o.w_zero_points = {}; });
  QuantisedProblem session = good;
  session.scope = Scope::kSession;
  expect_throw<std::invalid_argument>("scope", [&] { static_cast<void>(session.plan(memory)); });
}

}  // namespace reuse::testing
