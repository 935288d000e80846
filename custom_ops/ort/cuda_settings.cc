#include "cuda_settings.h"

#include <cstdint>

#include "reuse/cuda_operators.h"
#include "reuse/environment.h"

namespace reuse::ort {
namespace {

// Of onnxruntime's cuda_resource.h, enum CudaResource. It has use_tf32_t since 1.18, the first release whose C API we
// ask for, in the same place; KernelContext_GetResource is older (1.16), so it is in version 18 of the API. Looked up
// in the header of main, and in CudaStream::GetResource of the libraries in the packages onnxruntime-gpu 1.18.0
// and 1.27.0: both answer ids 10000 to 10011 and versions up to 3.
constexpr int kResourceVersion = 3, kDeferredCpuAllocator = 10003, kUseTf32 = 10011;

// Returns a resource of the provider's stream; nothing if the runtime refuses.
std::optional<uintptr_t> resource(const KernelContext* context, int id) {
  void* value = nullptr;
  using Reader = Status*(REUSE_ORT_CALL*)(const KernelContext*, int, int, void**);
  Status* status = api().get<Reader>(kKernelContextGetResource)(context, kResourceVersion, id, &value);
  if (status == nullptr) return reinterpret_cast<uintptr_t>(value);
  api().get<void(REUSE_ORT_CALL*)(Status*)>(kReleaseStatus)(status);
  return std::nullopt;
}

}  // namespace

CudaSettings CudaSettings::of_environment() {
  cuda::table_memory();  // is read at every run; a value that means nothing shall be known now
  return {environment_switch("REUSE_CUDA_TF32"), environment_switch("REUSE_CUDA_STAGES").value_or(false)};
}

std::optional<bool> provider_allows_tf32(const KernelContext* context) {
  // The option's value comes in place of a pointer.
  const std::optional<uintptr_t> value = resource(context, kUseTf32);
  if (!value || *value > 1) return std::nullopt;
  if (*value == 1) return true;
  // Zero is "off", but also what a stream that knows no resources answers to everything. The CUDA provider's has this
  // one always.
  return resource(context, kDeferredCpuAllocator).value_or(0) != 0 ? std::optional<bool>(false) : std::nullopt;
}

}  // namespace reuse::ort
