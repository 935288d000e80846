// What tests of the CUDA kernels share: problems as the kernels have them, and comparisons.
#pragma once

#include <limits>
#include <vector>

#include "cuda_problem.h"
#include "support.h"

namespace reuse::testing {

inline constexpr BlockOrder kOrders[] = {BlockOrder::kForwards, BlockOrder::kBackwards, BlockOrder::kShuffled};

// The usual choice of kernels; always those for many vectors; sums by slot wherever codes allow it.
inline constexpr cuda::PathLimits kUsual{}, kLarge{0, std::numeric_limits<int32_t>::max()}, kBySlot{0, 0};
inline constexpr cuda::PathLimits kPaths[] = {kUsual, kLarge, kBySlot};

// Random problems per test; REUSE_CUDA_CASES of the environment, where each takes long.
int cases();

CudaProblem cuda_problem(const Problem& problem);

// Y of the two forms in the order NCHW.
std::vector<float> run_cuda_fused(const Problem& p, CudaMode mode, BlockOrder order,
                                  RunStatistics* statistics = nullptr);
std::vector<float> run_cuda_staged(const Problem& p, CudaMode mode, BlockOrder order,
                                   RunStatistics* statistics = nullptr);

// Rounds X, W, bias and centroids to float16.
Problem rounded_to_half(const Problem& problem);

// Fails unless the error of all values is small against the size of all values.
void expect_near(const std::vector<float>& actual, const std::vector<float>& expected, double tolerance,
                 const char* what, int seed);

}  // namespace reuse::testing
