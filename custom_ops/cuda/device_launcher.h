// Launches kernels on a CUDA stream. For nvcc only.
#pragma once

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>
#include <type_traits>

#include "execution.h"
#include "reuse/cuda_operators.h"

namespace reuse::cuda {

inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
}

// Blocks that a multiprocessor shall have registers for at once: the kernel's kResident, or 1.
template <typename Kernel, typename = void>
constexpr int kResidentBlocks = 1;
template <typename Kernel>
constexpr int kResidentBlocks<Kernel, std::void_t<decltype(Kernel::kResident)>> = Kernel::kResident;

template <typename Kernel>
__global__ void __launch_bounds__(Kernel::kThreads, kResidentBlocks<Kernel>)
    run_kernel(const __grid_constant__ Kernel kernel) {
  __shared__ typename Kernel::Shared shared;
  kernel.run(Group<Kernel::kThreads>{blockIdx.x, gridDim.x, false}, shared);
}

// Times of the stages of a run, from events between them.
class StageTimes {
 public:
  StageTimes(cudaStream_t stream, RunStatistics& times) : stream_(stream), times_(times) {
    check(cudaEventCreate(&begin_), "creating an event");
    check(cudaEventCreate(&end_), "creating an event");
  }
  ~StageTimes() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
  }
  StageTimes(const StageTimes&) = delete;
  StageTimes& operator=(const StageTimes&) = delete;

  void begin(Stage stage) {
    end();
    stage_ = stage;
    running_ = true;
    check(cudaEventRecord(begin_, stream_), "recording an event");
  }

  // Waits for the stage that runs.
  void end() {
    if (!running_) return;
    check(cudaEventRecord(end_, stream_), "recording an event");
    check(cudaEventSynchronize(end_), "waiting for a stage");
    float ms = 0.0f;
    check(cudaEventElapsedTime(&ms, begin_, end_), "timing a stage");
    sum() += static_cast<int64_t>(1e6f * ms);
    running_ = false;
  }

 private:
  int64_t& sum() {
    switch (stage_) {
      case Stage::kHash:
        return times_.hash_ns;
      case Stage::kCluster:
        return times_.cluster_ns;
      case Stage::kGemm:
        return times_.gemm_ns;
      case Stage::kGather:
        break;
    }
    return times_.gather_ns;
  }

  cudaStream_t stream_;
  RunStatistics& times_;
  cudaEvent_t begin_{}, end_{};
  Stage stage_ = Stage::kHash;
  bool running_ = false;
};

class DeviceLauncher {
 public:
  // `times` may be null: then nothing is waited for.
  DeviceLauncher(const Execution& execution, StageTimes* times)
      : stream_(static_cast<cudaStream_t>(execution.stream)), times_(times) {
    int device = 0;
    check(cudaGetDevice(&device), "asking for the device");
    check(cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, device), "asking the device");
  }

  template <typename Kernel>
  void launch(const Kernel& kernel, int64_t blocks) {
    if (blocks == 0) return;
    if (blocks > 0x7FFFFFFF)
      throw std::invalid_argument("the input is too large for a CUDA kernel; run smaller batches");
    run_kernel<<<static_cast<unsigned>(blocks), Kernel::kThreads, 0, stream_>>>(kernel);
    check(cudaGetLastError(), "launching a kernel");
  }

  void begin_stage(Stage stage) {
    if (times_ != nullptr) times_->begin(stage);
  }
  void end_stages() {
    if (times_ != nullptr) times_->end();
  }
  int64_t multiprocessors() const { return multiprocessors_; }

 private:
  cudaStream_t stream_;
  StageTimes* times_;
  int multiprocessors_ = 1;
};

}  // namespace reuse::cuda
