// The kernels of the operators, CUDA provider: float32 and float16.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "kernel.h"
#include "reuse/cuda_operators.h"
#include "stream_scratch.h"

namespace reuse::ort {

// The memory that all CUDA kernels of a session share, for as long as one of them lives.
class SharedScratch {
 public:
  std::shared_ptr<StreamScratch> get();

 private:
  std::mutex mutex_;
  std::weak_ptr<StreamScratch> scratch_;
};

class CudaKernelSource final : public KernelSource {
 public:
  CudaKernelSource(std::string session, cuda::Element element, std::shared_ptr<SharedScratch> scratch,
                   bool stages_timed)
      : session_(std::move(session)), element_(element), scratch_(std::move(scratch)), stages_timed_(stages_timed) {}
  std::unique_ptr<Kernel> make(OperatorName name, const KernelInfo* info) const override;

 private:
  std::string session_;
  cuda::Element element_;
  std::shared_ptr<SharedScratch> scratch_;
  bool stages_timed_;  // also without the environment
};

}  // namespace reuse::ort
