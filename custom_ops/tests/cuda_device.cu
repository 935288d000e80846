// The functions of cuda_problem.h on a GPU: with cuda_test.cc they make the program that checks a machine's GPU.
#include "../cuda/device_launcher.h"
#include "cuda_run.h"

namespace reuse::testing {
namespace {

class DeviceMachine {
 public:
  // Memory of its own, so that compute-sanitizer sees what leaves it; filled with what would show as NaN.
  template <typename T>
  class Memory {
   public:
    explicit Memory(int64_t count) : count_(static_cast<size_t>(count)) {
      cuda::check(cudaMalloc(reinterpret_cast<void**>(&data_), bytes() == 0 ? 1 : bytes()), "allocating");
      cuda::check(cudaMemset(data_, 0xFF, bytes()), "filling memory");
    }
    explicit Memory(const std::vector<T>& values) : Memory(static_cast<int64_t>(values.size())) {
      cuda::check(cudaMemcpy(data_, values.data(), bytes(), cudaMemcpyHostToDevice), "copying to the device");
    }
    ~Memory() { cudaFree(data_); }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    T* data() { return data_; }
    std::vector<T> to_host() const {
      std::vector<T> values(count_);
      cuda::check(cudaMemcpy(values.data(), data_, bytes(), cudaMemcpyDeviceToHost), "copying from the device");
      return values;
    }

   private:
    size_t bytes() const { return count_ * sizeof(T); }
    size_t count_;
    T* data_ = nullptr;
  };

  DeviceMachine() : launcher_({nullptr, false}, nullptr) {}
  cuda::DeviceLauncher& launcher() { return launcher_; }
  template <typename T>
  static void copy(T* to, const std::vector<T>& values) {
    cuda::check(cudaMemcpy(to, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice),
                "copying to the device");
  }
  template <typename T>
  static std::vector<T> to_host(const T* from, int64_t count) {
    std::vector<T> values(static_cast<size_t>(count));
    cuda::check(cudaMemcpy(values.data(), from, values.size() * sizeof(T), cudaMemcpyDeviceToHost),
                "copying from the device");
    return values;
  }

 private:
  cuda::DeviceLauncher launcher_;
};

}  // namespace

std::vector<float> rounded_to_half(const std::vector<float>& values) {
  return as_floats(converted<cuda::Half>(values));
}

// The order of blocks is the GPU's own.
std::vector<float> run_cuda_fused(const CudaProblem& problem, CudaMode mode, BlockOrder, RunStatistics& statistics) {
  DeviceMachine machine;
  return run_fused_on(machine, problem, mode, statistics);
}

std::vector<float> run_cuda_staged(const CudaProblem& problem, CudaMode mode, BlockOrder, RunStatistics& statistics) {
  DeviceMachine machine;
  return run_staged_on(machine, problem, mode, statistics);
}

std::vector<float> run_cuda_product(const CudaProduct& problem, CudaMode mode, bool half_table, BlockOrder) {
  DeviceMachine machine;
  return run_product_on(machine, problem, mode, half_table);
}

std::vector<float> run_cuda_gather(const CudaProblem& problem, CudaMode mode, const std::vector<float>& table,
                                   int64_t rows, const std::vector<int32_t>& ids, BlockOrder) {
  DeviceMachine machine;
  return run_gather_on(machine, problem, mode, table, rows, ids);
}

CudaClusters run_cuda_cluster(const CudaProblem& problem, const std::vector<int64_t>& codes, BlockOrder) {
  DeviceMachine machine;
  return run_cluster_on(machine, problem, codes);
}

CudaStep run_cuda_step(const CudaProblem& problem, CudaMode mode, const std::vector<float>& dy, BlockOrder) {
  DeviceMachine machine;
  return run_step_on(machine, problem, mode, dy);
}

std::vector<float> run_cuda_pool(const PoolAttributes& attributes, int64_t batch, const PoolAxis& height,
                                 const PoolAxis& width, int64_t channels, const std::vector<float>& x, BlockOrder) {
  DeviceMachine machine;
  return run_pool_on(machine, attributes, batch, height, width, channels, x);
}

}  // namespace reuse::testing
