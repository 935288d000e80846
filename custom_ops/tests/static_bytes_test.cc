// QLinearReuseConv of scope static: what ReuseConv makes of the floats that its bytes stand for, as bytes.
#include <algorithm>
#include <cmath>

#include "reuse/quantised.h"
#include "support.h"
#include "test.h"

namespace reuse::testing {
namespace {

using Bytes = std::vector<uint8_t>;

struct StaticBytes {
  Problem floats;
  QuantisedOperands operands{};
  Bytes x, w;

  StaticBytePlan plan(Allocator& allocator) const {
    ReuseAttributes attributes{floats.blocking.geometry.attributes, floats.hash, floats.cluster, {}, TableType::kInt8};
    attributes.keep_tables = floats.keep_tables;
    return StaticBytePlan(allocator, operands,
                          {attributes, floats.parameters(), floats.sizes(), floats.centroids.data(),
                           static_cast<int64_t>(floats.centroids.size()), nullptr, floats.bias.data()});
  }
};

int32_t value_of(uint8_t byte, bool is_signed) { return is_signed ? static_cast<int8_t>(byte) : byte; }

StaticBytes random_static_bytes(int seed) {
  std::mt19937 random(static_cast<unsigned>(seed));
  const auto draw = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  const int64_t channels = draw(1, 70), outputs = draw(1, 140);
  StaticBytes s;
  Problem& p = s.floats;
  p = channel_problem(random, seed % 5 == 4 ? "sign" : "learned", draw(1, channels), channels, draw(1, 12), outputs);
  make_static(random, p, TableType::kInt8);
  ConvAttributes& conv = p.blocking.geometry.attributes;
  conv.input_order = conv.output_order = DataOrder::kNhwc;
  p.keep_tables = seed % 3 != 0;
  QuantisedOperands& o = s.operands;
  o.in_channels = channels;
  o.out_channels = outputs;
  o.x_signed = draw(0, 1) == 1;
  o.y_signed = draw(0, 1) == 1;
  o.weights.is_signed = draw(0, 1) == 1;
  o.x_zero_point = static_cast<int32_t>(draw(0, 255) - (o.x_signed ? 128 : 0));
  o.y_zero_point = static_cast<int32_t>(draw(0, 255) - (o.y_signed ? 128 : 0));
  o.x_scale = 0.01f;
  o.y_scale = 0.05f;
  const int32_t w_zero_point = o.weights.is_signed ? 3 : 120;
  o.w_zero_points = {w_zero_point};
  for (int64_t m = 0; m < outputs; ++m) o.w_scales.push_back(0.001f * static_cast<float>(draw(1, 9)));
  const int64_t pixels = p.blocking.geometry.in_pixels(), per_channel = static_cast<int64_t>(p.w.size()) / outputs;
  for (size_t i = 0; i < p.x.size(); ++i) s.x.push_back(static_cast<uint8_t>(draw(0, 255)));
  for (size_t i = 0; i < p.x.size(); ++i) {
    const auto at = static_cast<int64_t>(i);
    const int64_t pixel = at / channels, image = pixel / pixels;
    p.x[static_cast<size_t>((image * channels + at % channels) * pixels + pixel % pixels)] =
        static_cast<float>(value_of(s.x[i], o.x_signed) - o.x_zero_point) * o.x_scale;
  }
  for (size_t i = 0; i < p.w.size(); ++i) {
    s.w.push_back(static_cast<uint8_t>(draw(0, 255)));
    p.w[i] = static_cast<float>(value_of(s.w[i], o.weights.is_signed) - w_zero_point) *
             o.w_scales[i / static_cast<size_t>(per_channel)];
  }
  o.weights.values = s.w.data();
  return s;
}

Bytes run(const StaticBytes& s, const StaticBytePlan& plan, PoisonedAllocator& memory, int64_t threads) {
  const ConvGeometry& g = s.floats.blocking.geometry;
  const Blocking blocking = plan.blocking(g.batch, g.in_h, g.in_w);
  Threads parallel(threads);
  Workspace workspace(memory, parallel);
  Bytes y(static_cast<size_t>(g.rows() * g.out_channels), 0x55);
  qlinear_reuse_conv(plan, nullptr, blocking, workspace, s.x.data(), y.data());
  return y;
}

// The bytes of floats [N, M, Oh, Ow].
Bytes quantised(const std::vector<float>& y, const StaticBytes& s) {
  const QuantisedOperands& o = s.operands;
  const ConvGeometry& g = s.floats.blocking.geometry;
  const int32_t least = o.y_signed ? -128 : 0;
  const auto low = static_cast<float>(least - o.y_zero_point), high = static_cast<float>(least + 255 - o.y_zero_point);
  Bytes result;
  for (const float value : reordered(y, g.batch, g.out_channels, g.out_pixels())) {
    const float limited = std::min(std::max(value * (1.0f / o.y_scale), low), high);
    result.push_back(static_cast<uint8_t>(static_cast<int32_t>(std::nearbyint(limited)) + o.y_zero_point));
  }
  return result;
}

}  // namespace

TEST(static_bytes_are_reuse_conv_of_what_they_stand_for) {
  for (int seed = 0; seed < 60; ++seed) {
    const StaticBytes s = random_static_bytes(seed);
    PoisonedAllocator memory;
    {
      const StaticBytePlan plan = s.plan(memory);
      const Bytes expected = quantised(run_fused(s.floats, 1), s);
      EXPECT(run(s, plan, memory, 1) == expected, << "seed " << seed);
      EXPECT(run(s, plan, memory, 3) == expected, << "threads, seed " << seed);
    }
    EXPECT(memory.held() == 0, << "bytes were not given back");
  }
}

}  // namespace reuse::testing
