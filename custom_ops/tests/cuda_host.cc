#include <new>

#include "../cuda/host_launcher.h"
#include "cuda_run.h"

namespace reuse::testing {
namespace {

class HostMachine {
 public:
  // Memory of exactly that size, filled with what would show as NaN, so that sanitizers see what leaves it.
  template <typename T>
  class Memory {
   public:
    explicit Memory(int64_t count) : Memory(count, 0xFF) {}
    explicit Memory(const std::vector<T>& values) : Memory(static_cast<int64_t>(values.size()), 0) {
      if (!values.empty()) std::memcpy(static_cast<void*>(data_), values.data(), bytes());
    }
    ~Memory() { ::operator delete(data_, kAlignment); }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    T* data() { return data_; }
    std::vector<T> to_host() const { return std::vector<T>(data_, data_ + count_); }

   private:
    Memory(int64_t count, int fill)
        : count_(count), data_(static_cast<T*>(::operator new(static_cast<size_t>(count) * sizeof(T), kAlignment))) {
      std::memset(static_cast<void*>(data_), fill, bytes());
    }
    size_t bytes() const { return static_cast<size_t>(count_) * sizeof(T); }

    static constexpr std::align_val_t kAlignment{256};
    int64_t count_;
    T* data_;
  };

  explicit HostMachine(BlockOrder order) : launcher_(order) {}
  cuda::HostLauncher& launcher() { return launcher_; }
  template <typename T>
  static void copy(T* to, const std::vector<T>& values) {
    std::copy(values.begin(), values.end(), to);
  }
  template <typename T>
  static std::vector<T> to_host(const T* from, int64_t count) {
    return std::vector<T>(from, from + count);
  }

 private:
  cuda::HostLauncher launcher_;
};

}  // namespace

std::vector<float> rounded_to_half(const std::vector<float>& values) {
  return as_floats(converted<cuda::Half>(values));
}

std::vector<float> run_cuda_fused(const CudaProblem& problem, CudaMode mode, BlockOrder order,
                                  RunStatistics& statistics) {
  HostMachine machine(order);
  return run_fused_on(machine, problem, mode, statistics);
}

std::vector<float> run_cuda_staged(const CudaProblem& problem, CudaMode mode, BlockOrder order,
                                   RunStatistics& statistics) {
  HostMachine machine(order);
  return run_staged_on(machine, problem, mode, statistics);
}

std::vector<float> run_cuda_product(const CudaProduct& problem, CudaMode mode, bool half_table, BlockOrder order) {
  HostMachine machine(order);
  return run_product_on(machine, problem, mode, half_table);
}

std::vector<float> run_cuda_gather(const CudaProblem& problem, CudaMode mode, const std::vector<float>& table,
                                   int64_t rows, const std::vector<int32_t>& ids, BlockOrder order) {
  HostMachine machine(order);
  return run_gather_on(machine, problem, mode, table, rows, ids);
}

CudaClusters run_cuda_cluster(const CudaProblem& problem, const std::vector<int64_t>& codes, BlockOrder order) {
  HostMachine machine(order);
  return run_cluster_on(machine, problem, codes);
}

CudaStep run_cuda_step(const CudaProblem& problem, CudaMode mode, const std::vector<float>& dy, BlockOrder order) {
  HostMachine machine(order);
  return run_step_on(machine, problem, mode, dy);
}

std::vector<float> run_cuda_pool(const PoolAttributes& attributes, int64_t batch, const PoolAxis& height,
                                 const PoolAxis& width, int64_t channels, const std::vector<float>& x,
                                 BlockOrder order) {
  HostMachine machine(order);
  return run_pool_on(machine, attributes, batch, height, width, channels, x);
}

}  // namespace reuse::testing
