#include "quantised_problem.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "test.h"

namespace reuse::testing {
namespace {

// Fills in what the shapes leave open.
void draw_operands(Draw& draw, QuantisedProblem& p, int64_t in_channels, int64_t out_channels) {
  QuantisedOperands& o = p.operands;
  o.in_channels = in_channels;
  o.out_channels = out_channels;
  o.x_signed = draw.coin();
  o.y_signed = draw.coin();
  o.weights.is_signed = draw.coin();
  o.x_zero_point = draw.zero_point(o.x_signed);
  o.y_zero_point = draw.zero_point(o.y_signed);
  const int64_t per_scale = draw.coin() ? 1 : out_channels, per_zero_point = draw.coin() ? 1 : out_channels;
  for (int64_t m = 0; m < per_scale; ++m) o.w_scales.push_back(static_cast<float>(draw(1, 1000)) * 1e-4f);
  const bool symmetric = draw.coin();
  for (int64_t m = 0; m < per_zero_point; ++m) {
    const int32_t middle = o.weights.is_signed ? 0 : 128;
    o.w_zero_points.push_back(symmetric ? middle : draw.zero_point(o.weights.is_signed));
  }
  o.x_scale = static_cast<float>(draw(1, 1000)) * 1e-3f;
  const int64_t columns = in_channels / p.conv.group * p.conv.kernel_h * p.conv.kernel_w;
  // From outputs that are almost all the same to ones that are cut off at both ends.
  const float typical = 1e4f * std::sqrt(static_cast<float>(columns)) * o.x_scale * o.w_scales[0];
  const float spreads[] = {1.0f, 50.0f, 2000.0f};
  o.y_scale = typical / spreads[draw(0, 2)];
  p.has_bias = draw.coin();
  for (int64_t m = 0; m < out_channels; ++m) {
    const int64_t large = draw(0, 9) == 0 ? std::numeric_limits<int32_t>::max() : 5000;
    p.bias.push_back(static_cast<int32_t>(draw(-large, large)));
  }
  p.w = draw.bytes(out_channels * columns);
  const int64_t pixels = p.height * p.width, colours = draw(1, 3) == 1 ? pixels * p.batch : draw(1, 5);
  const Bytes palette = draw.bytes(std::max<int64_t>(colours, 1) * in_channels);
  p.x.resize(static_cast<size_t>(p.batch * in_channels * pixels));
  for (int64_t n = 0; n < p.batch; ++n) {
    for (int64_t pixel = 0; pixel < pixels; ++pixel) {
      const int64_t colour = draw(0, std::max<int64_t>(colours, 1) - 1);
      for (int64_t c = 0; c < in_channels; ++c) {
        p.x[static_cast<size_t>((n * pixels + pixel) * in_channels + c)] =
            palette[static_cast<size_t>(colour * in_channels + c)];
      }
    }
  }
}

}  // namespace

QuantisedProblem random_quantised(std::mt19937& random) {
  Draw draw(random);
  QuantisedProblem p;
  ConvAttributes& a = p.conv;
  a.kernel_h = draw(1, 3);
  a.kernel_w = draw(1, 4);
  a.stride_h = draw(1, 2);
  a.stride_w = draw(1, 3);
  a.dilation_h = draw(1, 2);
  a.dilation_w = draw(1, 2);
  a.group = draw(1, 3);
  const AutoPad kinds[] = {AutoPad::kNotSet, AutoPad::kNotSet, AutoPad::kSameUpper, AutoPad::kSameLower,
                           AutoPad::kValid};
  a.auto_pad = kinds[draw(0, 4)];
  if (a.auto_pad == AutoPad::kNotSet) {
    a.pad_top = draw(0, 2);
    a.pad_left = draw(0, 2);
    a.pad_bottom = draw(0, 2);
    a.pad_right = draw(0, 2);
  }
  a.layout = draw.coin() ? Layout::kChannel : Layout::kPatch;
  p.scope = draw.coin() ? Scope::kBatch : Scope::kImage;
  p.batch = draw(0, 3);
  p.height = (a.kernel_h - 1) * a.dilation_h + draw(1, 9);
  p.width = (a.kernel_w - 1) * a.dilation_w + draw(1, 12);
  const int64_t in_channels = a.group * draw(1, 40), out_channels = a.group * draw(1, 150);
  const int64_t width = in_channels / a.group * (a.layout == Layout::kPatch ? a.kernel_h * a.kernel_w : 1);
  a.sub_vector_length = draw.coin() ? width : draw(1, width);
  draw_operands(draw, p, in_channels, out_channels);
  return p;
}

void run(const QuantisedProblem& p, const QuantisedPlan& plan, PoisonedAllocator& memory, int64_t threads, Bytes& y,
         RunStatistics* statistics, ReuseState* state) {
  const Blocking blocking = plan.blocking(p.batch, p.height, p.width);
  Threads parallel(threads);
  Workspace workspace(memory, parallel);
  y = poisoned<uint8_t>(blocking.geometry.rows() * blocking.geometry.out_channels * plan.y_bytes());
  qlinear_reuse_conv(plan, state, blocking, workspace, p.x.data(), y.data());
  if (statistics != nullptr) *statistics = workspace.statistics;
}

Bytes run(const QuantisedProblem& p, int64_t threads, RunStatistics* statistics, ReuseState* state) {
  PoisonedAllocator memory;
  Bytes y;
  run(p, p.plan(memory), memory, threads, y, statistics, state);
  EXPECT(memory.held() == 0, << "bytes were not given back");
  return y;
}

ConvGeometry geometry_of(const QuantisedProblem& p) {
  return ConvGeometry::make(p.conv, p.batch, p.operands.in_channels, p.height, p.width, p.operands.out_channels);
}

QuantisedProblem problem_of(ConvAttributes conv, int64_t in_channels, int64_t height, int64_t width,
                            int64_t out_channels, uint32_t seed) {
  std::mt19937 random(seed);
  Draw draw(random);
  QuantisedProblem p;
  p.conv = conv;
  p.height = height;
  p.width = width;
  draw_operands(draw, p, in_channels, out_channels);
  return p;
}

}  // namespace reuse::testing
