// ReuseConv in the CUDA provider.
#pragma once

#include "cuda_kernel.h"

namespace reuse::ort {

std::unique_ptr<Kernel> make_cuda_reuse_conv(const KernelInfo* info, const CudaSetup& setup);

}  // namespace reuse::ort
