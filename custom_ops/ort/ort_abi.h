// The part of ONNX Runtime's C ABI that the operator library uses, for API version 18 (onnxruntime 1.18 and later).
//
// ONNX Runtime's headers are in no Python package, and its ABI is append-only: function tables grow at the end and
// never change. So the tables are declared here as arrays of slots, and only the slots in use get a name and a type.
// custom_ops/tests/ort_abi_test.cc compares every one with the official header when ORT_INCLUDE_DIR is given.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef _WIN32
#define REUSE_ORT_CALL __stdcall
#else
#define REUSE_ORT_CALL
#endif

namespace reuse::ort {

constexpr uint32_t kApiVersion = 18;

// Opaque types of the runtime.
struct Status;
struct SessionOptions;
struct KernelInfo;
struct KernelContext;
struct ShapeInferContext;
struct Value;
struct TypeAndShape;
struct OpAttribute;
struct CustomOpDomain;
struct OrtAllocatorHandle;
struct MemoryInfo;

enum ErrorCode : int { kOk = 0, kFail = 1, kInvalidArgument = 2, kRuntimeException = 6 };
enum ElementType : int { kUndefined = 0, kFloat = 1, kInt32 = 6, kInt64 = 7, kBool = 9, kFloat16 = 10 };
enum AttributeType : int {
  kAttributeInt = 1,
  kAttributeInts = 2,
  kAttributeFloat = 3,
  kAttributeFloats = 4,
  kAttributeString = 5
};
enum Characteristic : int { kRequired = 0, kOptional = 1, kVariadic = 2 };
enum MemoryType : int { kMemoryDefault = 0 };

// Slot numbers of OrtApi.
enum Slot : size_t {
  kCreateStatus = 0,
  kGetErrorMessage = 2,
  kCreateCustomOpDomain = 26,
  kCustomOpDomainAdd = 27,
  kAddCustomOpDomain = 28,
  kGetTensorMutableData = 51,
  kCreateTensorTypeAndShapeInfo = 57,
  kSetTensorElementType = 58,
  kSetDimensions = 59,
  kGetTensorElementType = 60,
  kGetDimensionsCount = 61,
  kGetDimensions = 62,
  kGetSymbolicDimensions = 63,
  kGetTensorTypeAndShape = 65,
  kMemoryInfoGetId = 72,
  kAllocatorAlloc = 75,
  kAllocatorFree = 76,
  kAllocatorGetInfo = 77,
  kKernelInfoGetAttributeFloat = 85,
  kKernelInfoGetAttributeInt64 = 86,
  kKernelInfoGetAttributeString = 87,
  kKernelContextGetInputCount = 88,
  kKernelContextGetInput = 90,
  kKernelContextGetOutput = 91,
  kReleaseStatus = 93,
  kReleaseTensorTypeAndShapeInfo = 99,
  kReleaseAllocator = 132,
  kKernelInfoGetAttributeArrayFloat = 162,
  kKernelInfoGetAttributeArrayInt64 = 163,
  kKernelContextGetGpuComputeStream = 193,
  kKernelInfoGetInputCount = 230,
  kHasSessionConfigEntry = 237,
  kGetSessionConfigEntry = 238,
  kKernelInfoGetNodeName = 244,
  kKernelInfoGetConstantInputTensor = 249,
  kKernelContextGetResource = 265,
  kShapeInferContextGetInputCount = 267,
  kShapeInferContextGetInputTypeShape = 268,
  kShapeInferContextGetAttribute = 269,
  kShapeInferContextSetOutputTypeShape = 270,
  kSetSymbolicDimensions = 271,
  kReadOpAttr = 272,
  kKernelContextParallelFor = 274,
  kKernelInfoGetAllocator = 278,
};

// OrtApi: a table of function pointers.
struct Api {
  void (*slots[1])();

  template <typename Function>
  Function get(Slot slot) const {
    return reinterpret_cast<Function>(reinterpret_cast<void (*const*)()>(this)[slot]);
  }
};

// OrtApiBase.
struct ApiBase {
  const Api*(REUSE_ORT_CALL* get_api)(uint32_t version);
  const char*(REUSE_ORT_CALL* get_version_string)();
};

// OrtCustomOp, in the runtime's member order.
struct CustomOp {
  uint32_t version;
  void*(REUSE_ORT_CALL* create_kernel)(const CustomOp* op, const Api* api, const KernelInfo* info);
  const char*(REUSE_ORT_CALL* get_name)(const CustomOp* op);
  const char*(REUSE_ORT_CALL* get_execution_provider)(const CustomOp* op);
  ElementType(REUSE_ORT_CALL* get_input_type)(const CustomOp* op, size_t index);
  size_t(REUSE_ORT_CALL* get_input_count)(const CustomOp* op);
  ElementType(REUSE_ORT_CALL* get_output_type)(const CustomOp* op, size_t index);
  size_t(REUSE_ORT_CALL* get_output_count)(const CustomOp* op);
  void(REUSE_ORT_CALL* kernel_compute)(void* kernel, KernelContext* context);
  void(REUSE_ORT_CALL* kernel_destroy)(void* kernel);
  Characteristic(REUSE_ORT_CALL* get_input_characteristic)(const CustomOp* op, size_t index);
  Characteristic(REUSE_ORT_CALL* get_output_characteristic)(const CustomOp* op, size_t index);
  MemoryType(REUSE_ORT_CALL* get_input_memory_type)(const CustomOp* op, size_t index);
  int(REUSE_ORT_CALL* get_variadic_input_min_arity)(const CustomOp* op);
  int(REUSE_ORT_CALL* get_variadic_input_homogeneity)(const CustomOp* op);
  int(REUSE_ORT_CALL* get_variadic_output_min_arity)(const CustomOp* op);
  int(REUSE_ORT_CALL* get_variadic_output_homogeneity)(const CustomOp* op);
  Status*(REUSE_ORT_CALL* create_kernel_v2)(const CustomOp* op, const Api* api, const KernelInfo* info, void** kernel);
  Status*(REUSE_ORT_CALL* kernel_compute_v2)(void* kernel, KernelContext* context);
  Status*(REUSE_ORT_CALL* infer_output_shape)(const CustomOp* op, ShapeInferContext* context);
  int(REUSE_ORT_CALL* get_start_version)(const CustomOp* op);
  int(REUSE_ORT_CALL* get_end_version)(const CustomOp* op);
  size_t(REUSE_ORT_CALL* get_may_inplace)(int** inputs, int** outputs);
  void(REUSE_ORT_CALL* release_may_inplace)(int* inputs, int* outputs);
  size_t(REUSE_ORT_CALL* get_alias_map)(int** inputs, int** outputs);
  void(REUSE_ORT_CALL* release_alias_map)(int* inputs, int* outputs);
};

}  // namespace reuse::ort
