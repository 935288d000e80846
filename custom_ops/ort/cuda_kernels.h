// The kernels of the operators, CUDA provider: float32 and float16.
#pragma once

#include <memory>
#include <string>

#include "kernel.h"
#include "reuse/cuda_operators.h"
#include "stream_scratch.h"

namespace reuse::ort {

// What a CUDA kernel is made from, besides its node.
struct CudaSetup {
  std::string session;
  cuda::Element element;
  std::shared_ptr<StreamScratch> scratch;
};

enum class OperatorName { kHash, kCluster, kCentroidGemm, kGather, kReuseConv, kPool };

std::unique_ptr<Kernel> make_cuda_kernel(OperatorName name, const KernelInfo* info, const CudaSetup& setup);

}  // namespace reuse::ort
