// The CUDA kernels on host memory (cuda/host_launcher.h): whole operators, element types and modes as on a GPU.
#pragma once

#include <vector>

#include "../cuda/hash_kernels.h"
#include "../cuda/host_launcher.h"
#include "../cuda/gather_kernels.h"

namespace reuse::testing {

enum class CudaMode { kStrict, kTf32, kHalf };

// A convolution with reuse settings and data; x and the result are in the orders of the blocking.
struct CudaProblem {
  Blocking blocking;
  cuda::HashOperands hash;
  ClusterAttributes cluster;
  cuda::ActivationOperands activation;
  std::vector<float> x, w, bias;
};

// Values as float16 has them.
std::vector<float> rounded_to_half(const std::vector<float>& values);

// The fused and the staged form, whose tables are float32 in mode kTf32. Of `statistics` clusters and guarded vectors
// are set.
std::vector<float> run_cuda_fused(const CudaProblem& problem, CudaMode mode, cuda::HostLauncher::Order order,
                                  RunStatistics& statistics);
std::vector<float> run_cuda_staged(const CudaProblem& problem, CudaMode mode, cuda::HostLauncher::Order order,
                                   RunStatistics& statistics);

}  // namespace reuse::testing
