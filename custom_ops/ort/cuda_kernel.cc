#include "cuda_kernel.h"

#include <utility>
#include <vector>

#include "attributes.h"
#include "reuse/checked.h"

namespace reuse::ort {
namespace {

// The session's allocator of device memory, for as long as some of its memory is in use.
class SessionAllocator final : public Allocator {
 public:
  explicit SessionAllocator(const KernelInfo* info) : kernel_(info), memory_(kernel_) {}
  void* allocate(size_t bytes) override { return memory_.allocate(bytes); }
  void release(void* memory, size_t bytes) noexcept override { memory_.release(memory, bytes); }
  int device() const { return kernel_.device(); }

 private:
  KernelAllocator kernel_;
  ScratchAllocator memory_;
};

std::shared_ptr<cuda::DeviceAllocator> device_allocator(const KernelInfo* info) {
  const auto own = std::make_shared<SessionAllocator>(info);
  return std::make_shared<cuda::DeviceAllocator>(cuda::device_api(), own->device(), own);
}

// Our stream on a device, which all sessions share.
std::shared_ptr<cuda::CopyStream> copy_stream(int device) {
  static auto* const streams = new cuda::CopyStreams;  // never destroyed, as the registry of statistics
  return streams->get(cuda::device_api(), device);
}

}  // namespace

void require_cuda_scope(const ClusterAttributes& attributes) {
  checked::require(attributes.scope != Scope::kSession,
                   "scope session has no CUDA kernel: give the node to the CPU provider, or choose another scope");
}

CudaKernel::CudaKernel(const KernelInfo* info, const char* op, const CudaSetup& setup)
    : Kernel(info, op, setup.session),
      element_(setup.element),
      forced_tf32_(setup.settings.tf32),
      scratch_(setup.scratch),
      memory_(device_allocator(info)),
      copies_(copy_stream(memory_->device())) {}

cuda::Execution CudaKernel::execution(const KernelContext* context) const {
  cuda::Execution result{nullptr, false};
  call(kKernelContextGetGpuComputeStream, context, &result.stream);
  return result;
}

cuda::Execution CudaKernel::execution(const KernelContext* context, RunStatistics& statistics) const {
  cuda::Execution result = execution(context);
  if (element_ == cuda::Element::kHalf) return result;
  statistics.tf32 = forced_tf32_ ? forced_tf32_ : provider_allows_tf32(context);
  result.tf32 = statistics.tf32.value_or(false);
  return result;
}

StreamScratch::Lease CudaKernel::lease(const cuda::Execution& execution, size_t bytes,
                                       RunStatistics& statistics) const {
  statistics.scratch_bytes += static_cast<int64_t>(bytes);
  return scratch_->lease(device(), execution.stream, memory_, bytes);
}

void CudaKernel::check_constant_coordinates(const KernelInfo* info, size_t index, int64_t length) const {
  const TensorView coordinates = constant_input(info, index);
  if (!coordinates.present()) return;
  std::vector<int32_t> values(static_cast<size_t>(coordinates.size()));
  copies_->read(values.data(), coordinates.data, values.size() * sizeof(int32_t));
  check_coordinates(values.data(), static_cast<int64_t>(values.size()), length);
}

CountingKernel::CountingKernel(const KernelInfo* info, const char* op, const CudaSetup& setup)
    : CudaKernel(info, op, setup), sums_(memory(), sizeof(NodeCounts::Sums)) {
  copies()->clear(sums_.data(), sizeof(NodeCounts::Sums));
  counts_ = std::make_shared<NodeCounts>([this] {
    NodeCounts::Sums sums{};
    copies()->read(&sums, sums_.data(), sizeof sums);
    return sums;
  });
  StatisticsRegistry::instance().attach(session(), node(), counts_);
}

CountingKernel::~CountingKernel() { StatisticsRegistry::instance().detach(session(), node(), counts_); }

}  // namespace reuse::ort
