#include "cuda_support.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "../cuda/setup.h"
#include "test.h"

namespace reuse::testing {

int cases() {
  const char* text = std::getenv("REUSE_CUDA_CASES");
  return text == nullptr ? 120 : static_cast<int>(std::strtol(text, nullptr, 10));
}

CudaProblem cuda_problem(const Problem& p) {
  const ConvGeometry& g = p.blocking.geometry;
  const bool pixel_major = g.attributes.input_order == DataOrder::kNhwc;
  return {p.blocking,
          cuda::make_hash(p.hash, p.parameters()),
          p.cluster,
          cuda::make_activation(p.gather),
          pixel_major ? reordered(p.x, g.batch, g.in_channels, g.in_pixels()) : p.x,
          p.w,
          p.bias,
          {}};
}

void expect_near(const std::vector<float>& actual, const std::vector<float>& expected, double tolerance,
                 const char* what, int seed) {
  EXPECT(actual.size() == expected.size());
  double error = 0.0, size = 0.0;
  for (size_t i = 0; i < actual.size(); ++i) {
    EXPECT(std::isfinite(actual[i]) == std::isfinite(expected[i]), << what << " at " << i << ", seed " << seed);
    if (!std::isfinite(expected[i])) continue;
    error += std::pow(static_cast<double>(actual[i]) - expected[i], 2);
    size += std::pow(static_cast<double>(expected[i]), 2);
  }
  EXPECT(error <= tolerance * tolerance * std::max(size, 1e-6),
         << what << ": relative error " << std::sqrt(error / std::max(size, 1e-6)) << ", seed " << seed);
}

}  // namespace reuse::testing
