// What tests of the CUDA kernels share: problems as the kernels have them, and comparisons.
#pragma once

#include <vector>

#include "cuda_problem.h"
#include "support.h"

namespace reuse::testing {

inline const char* const kFamilies[] = {"sign", "pstable", "learned", "exact"};
inline constexpr BlockOrder kOrders[] = {BlockOrder::kForwards, BlockOrder::kBackwards, BlockOrder::kShuffled};

// Random problems per test; REUSE_CUDA_CASES of the environment, where each takes long.
int cases();

CudaProblem cuda_problem(const Problem& problem);

// Fails unless the error of all values is small against the size of all values.
void expect_near(const std::vector<float>& actual, const std::vector<float>& expected, double tolerance,
                 const char* what, int seed);

}  // namespace reuse::testing
