// What is set for CUDA kernels: by the environment, and by the options of ONNX Runtime's provider.
#pragma once

#include <optional>

#include "api.h"

namespace reuse::ort {

// The environment when the session is made. A variable with a value that means nothing is an error.
struct CudaSettings {
  std::optional<bool> tf32;   // REUSE_CUDA_TF32=1 or 0, over the provider's option
  bool stages_timed = false;  // REUSE_CUDA_STAGES=1 times the stages of ReuseConv, for which each is waited for

  static CudaSettings of_environment();
};

// The provider's option use_tf32; nothing if the runtime does not tell.
std::optional<bool> provider_allows_tf32(const KernelContext* context);

}  // namespace reuse::ort
