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
          {},
          p.centroids,
          p.table,
          p.keep_tables};
}

namespace {

using Run = std::vector<float>(const CudaProblem&, CudaMode, BlockOrder, RunStatistics&);
std::vector<float> run_as_nchw(Run* run, const Problem& p, CudaMode mode, BlockOrder order, RunStatistics* statistics) {
  RunStatistics own;
  std::vector<float> y = run(cuda_problem(p), mode, order, statistics == nullptr ? own : *statistics);
  const ConvGeometry& g = p.blocking.geometry;
  if (g.attributes.output_order == DataOrder::kNchw) return y;
  return reordered(y, g.batch, g.out_pixels(), g.out_channels);
}

}  // namespace

std::vector<float> run_cuda_fused(const Problem& p, CudaMode mode, BlockOrder order, RunStatistics* statistics) {
  return run_as_nchw(run_cuda_fused, p, mode, order, statistics);
}
std::vector<float> run_cuda_staged(const Problem& p, CudaMode mode, BlockOrder order, RunStatistics* statistics) {
  return run_as_nchw(run_cuda_staged, p, mode, order, statistics);
}

Problem rounded_to_half(const Problem& problem) {
  Problem result = problem;
  for (auto* values : {&result.x, &result.w, &result.bias, &result.centroids}) *values = rounded_to_half(*values);
  return result;
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
