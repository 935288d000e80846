// The library of another project: domain com.acme with Decode, which doubles float32 elements.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ort_abi.h"

using namespace reuse::ort;

namespace {

const Api* g_api = nullptr;

template <typename... Arguments>
Status* call(Slot slot, Arguments... arguments) {
  return g_api->get<Status*(REUSE_ORT_CALL*)(Arguments...)>(slot)(arguments...);
}

void compute(void*, KernelContext* context) {
  const Value* input = nullptr;
  call(kKernelContextGetInput, static_cast<const KernelContext*>(context), size_t{0}, &input);
  TypeAndShape* type = nullptr;
  call(kGetTensorTypeAndShape, input, &type);
  size_t rank = 0;
  call(kGetDimensionsCount, static_cast<const TypeAndShape*>(type), &rank);
  std::vector<int64_t> sizes(rank);
  call(kGetDimensions, static_cast<const TypeAndShape*>(type), sizes.data(), rank);
  Value* output = nullptr;
  call(kKernelContextGetOutput, context, size_t{0}, static_cast<const int64_t*>(sizes.data()), rank, &output);
  void *from = nullptr, *to = nullptr;
  call(kGetTensorMutableData, const_cast<Value*>(input), &from);
  call(kGetTensorMutableData, output, &to);
  int64_t count = 1;
  for (const int64_t size : sizes) count *= size;
  for (int64_t i = 0; i < count; ++i) static_cast<float*>(to)[i] = 2.0f * static_cast<float*>(from)[i];
  g_api->get<void(REUSE_ORT_CALL*)(TypeAndShape*)>(kReleaseTensorTypeAndShapeInfo)(type);
}

CustomOp decode() {
  CustomOp op{};
  op.version = kApiVersion;
  op.create_kernel = [](const CustomOp*, const Api*, const KernelInfo*) -> void* { return &g_api; };
  op.get_name = [](const CustomOp*) { return "Decode"; };
  op.get_execution_provider = [](const CustomOp*) -> const char* { return nullptr; };
  op.get_input_type = [](const CustomOp*, size_t) { return kFloat; };
  op.get_input_count = [](const CustomOp*) { return size_t{1}; };
  op.get_output_type = [](const CustomOp*, size_t) { return kFloat; };
  op.get_output_count = [](const CustomOp*) { return size_t{1}; };
  op.kernel_compute = compute;
  op.kernel_destroy = [](void*) {};
  op.get_input_characteristic = [](const CustomOp*, size_t) { return kRequired; };
  op.get_output_characteristic = [](const CustomOp*, size_t) { return kRequired; };
  op.get_input_memory_type = [](const CustomOp*, size_t) { return kMemoryDefault; };
  op.get_start_version = [](const CustomOp*) { return 1; };
  op.get_end_version = [](const CustomOp*) { return 1; };
  return op;
}

}  // namespace

extern "C" Status* RegisterCustomOps(SessionOptions* options, const ApiBase* base) {
  g_api = base->get_api(kApiVersion);
  static const CustomOp op = decode();
  CustomOpDomain* domain = nullptr;
  call(kCreateCustomOpDomain, "com.acme", &domain);
  call(kCustomOpDomainAdd, domain, &op);
  return call(kAddCustomOpDomain, options, domain);
}
