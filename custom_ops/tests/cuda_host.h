// The CUDA kernels on host memory (cuda/host_launcher.h), for problems of the other tests.
#pragma once

#include "../cuda/host_launcher.h"
#include "support.h"

namespace reuse::testing {

enum class CudaMode { kStrict, kTf32, kHalf };

// Rounds the problem's X, W and bias to float16.
Problem rounded_to_half(const Problem& problem);

// Y in the order NCHW, of the fused and of the staged form; staged tables are float32 in mode kTf32.
std::vector<float> run_cuda_fused(const Problem& problem, CudaMode mode, cuda::HostLauncher::Order order,
                                  RunStatistics* statistics = nullptr);
std::vector<float> run_cuda_staged(const Problem& problem, CudaMode mode, cuda::HostLauncher::Order order,
                                   RunStatistics* statistics = nullptr);

}  // namespace reuse::testing
