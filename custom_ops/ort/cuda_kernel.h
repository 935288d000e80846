// What the CUDA provider's kernels have in common: memory, streams, and counts on the device.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "cuda_settings.h"
#include "kernel.h"
#include "node_counts.h"
#include "reuse/cuda_device.h"
#include "reuse/cuda_operators.h"
#include "stream_scratch.h"

namespace reuse::ort {

// What a CUDA kernel is made from, besides its node.
struct CudaSetup {
  const std::string& session;
  cuda::Element element;
  CudaSettings settings;
  std::shared_ptr<StreamScratch> scratch;
};

// Refuses scope session: its clusters would have to come back from the device before a run can end.
void require_cuda_scope(const ClusterAttributes& attributes);

class CudaKernel : public Kernel {
 public:
  CudaKernel(const KernelInfo* info, const char* op, const CudaSetup& setup);

 protected:
  cuda::Element element() const { return element_; }
  // The session's device, whatever the calling thread's is.
  int device() const { return memory_->device(); }
  const std::shared_ptr<cuda::DeviceAllocator>& memory() const { return memory_; }
  const std::shared_ptr<cuda::CopyStream>& copies() const { return copies_; }

  // Of a run without products.
  cuda::Execution execution(const KernelContext* context) const;

  // Of a run with products, which may be in TF32 if they are of float32.
  cuda::Execution execution(const KernelContext* context, RunStatistics& statistics) const;

  // Memory that the run's kernels may use, and nobody else on that stream until the lease ends.
  StreamScratch::Lease lease(const cuda::Execution& execution, size_t bytes, RunStatistics& statistics) const;

  // Refuses a constant that would lead out of vectors; what is not constant the kernels clamp.
  void check_constant_coordinates(const KernelInfo* info, size_t index, int64_t length) const;

 private:
  cuda::Element element_;
  std::optional<bool> forced_tf32_;
  std::shared_ptr<StreamScratch> scratch_;
  std::shared_ptr<cuda::DeviceAllocator> memory_;
  std::shared_ptr<cuda::CopyStream> copies_;
};

// A kernel whose clusters are counted on the device.
class CountingKernel : public CudaKernel {
 public:
  CountingKernel(const KernelInfo* info, const char* op, const CudaSetup& setup);
  ~CountingKernel() override;

 protected:
  int64_t* sums() const { return static_cast<int64_t*>(sums_.data()); }

  // Enqueues a run by calling `launch`.
  template <typename Launch>
  void counted(const Blocking& blocking, RunStatistics& statistics, const Launch& launch) const {
    statistics.blocks = blocking.num_blocks();
    statistics.rows = blocking.geometry.rows();
    statistics.vectors = blocking.num_blocks() * blocking.vectors;
    // The device counts no run that has nothing to do.
    if (blocking.vectors == 0) return launch();
    counts_->note(statistics);
    try {
      launch();
    } catch (...) {
      counts_->withdraw();
      throw;
    }
  }

 private:
  cuda::DeviceMemory sums_;
  std::shared_ptr<NodeCounts> counts_;  // reads `sums_`, but not after it is detached
};

}  // namespace reuse::ort
