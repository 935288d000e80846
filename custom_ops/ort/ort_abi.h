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
// The version that plugin.cc needs, whose libraries of execution providers may bring operators.
constexpr uint32_t kPluginApiVersion = 24;

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
struct Logger;
struct Graph;
struct HardwareDevice;
struct EpDevice;
struct KeyValuePairs;
struct SupportInfo;
struct MemoryDevice;
struct DataTransfer;
struct SyncStream;

enum ErrorCode : int { kOk = 0, kFail = 1, kInvalidArgument = 2, kRuntimeException = 6 };
enum ElementType : int {
  kUndefined = 0,
  kFloat = 1,
  kUint8 = 2,
  kInt8 = 3,
  kInt32 = 6,
  kInt64 = 7,
  kBool = 9,
  kFloat16 = 10
};
enum AttributeType : int {
  kAttributeInt = 1,
  kAttributeInts = 2,
  kAttributeFloat = 3,
  kAttributeFloats = 4,
  kAttributeString = 5
};
enum Characteristic : int { kRequired = 0, kOptional = 1, kVariadic = 2 };
enum MemoryType : int { kMemoryDefault = 0 };
enum HardwareDeviceType : int { kHardwareCpu = 0 };

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
  // From version 22 on.
  kHardwareDeviceGetType = 307,
  kGetEpApi = 317,
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

// The first function of OrtEpApi.
struct EpFactory;
struct EpApi {
  Status*(REUSE_ORT_CALL* create_ep_device)(EpFactory* factory, const HardwareDevice* device,
                                            const KeyValuePairs* metadata, const KeyValuePairs* options,
                                            EpDevice** ep_device);
};

// OrtEp of version 24, in the runtime's member order: an execution provider in a session.
struct Ep {
  uint32_t version;
  const char*(REUSE_ORT_CALL* get_name)(const Ep* ep);
  Status*(REUSE_ORT_CALL* get_capability)(Ep* ep, const Graph* graph, SupportInfo* info);
  void (*not_used[12])();  // what a provider need not have
};

// OrtEpFactory of version 24, likewise: what a library of an execution provider offers.
struct EpFactory {
  uint32_t version;
  const char*(REUSE_ORT_CALL* get_name)(const EpFactory* factory);
  const char*(REUSE_ORT_CALL* get_vendor)(const EpFactory* factory);
  Status*(REUSE_ORT_CALL* get_supported_devices)(EpFactory* factory, const HardwareDevice* const* devices,
                                                 size_t num_devices, EpDevice** ep_devices, size_t max_ep_devices,
                                                 size_t* num_ep_devices);
  Status*(REUSE_ORT_CALL* create_ep)(EpFactory* factory, const HardwareDevice* const* devices,
                                     const KeyValuePairs* const* metadata, size_t num_devices,
                                     const SessionOptions* options, const Logger* logger, Ep** ep);
  void(REUSE_ORT_CALL* release_ep)(EpFactory* factory, Ep* ep);
  uint32_t(REUSE_ORT_CALL* get_vendor_id)(const EpFactory* factory);
  const char*(REUSE_ORT_CALL* get_version)(const EpFactory* factory);
  Status*(REUSE_ORT_CALL* validate_compiled_model)(EpFactory* factory, const HardwareDevice* const* devices,
                                                   size_t num_devices, const char* info, int* compatibility);
  Status*(REUSE_ORT_CALL* create_allocator)(EpFactory* factory, const MemoryInfo* info, const KeyValuePairs* options,
                                            OrtAllocatorHandle** allocator);
  void(REUSE_ORT_CALL* release_allocator)(EpFactory* factory, OrtAllocatorHandle* allocator);
  Status*(REUSE_ORT_CALL* create_data_transfer)(EpFactory* factory, DataTransfer** transfer);
  bool(REUSE_ORT_CALL* is_stream_aware)(const EpFactory* factory);
  Status*(REUSE_ORT_CALL* create_sync_stream)(EpFactory* factory, const MemoryDevice* device,
                                              const KeyValuePairs* options, SyncStream** stream);
  void (*not_used[2])();
  Status*(REUSE_ORT_CALL* get_num_custom_op_domains)(EpFactory* factory, size_t* num_domains);
  Status*(REUSE_ORT_CALL* get_custom_op_domains)(EpFactory* factory, CustomOpDomain** domains, size_t num_domains);
};

}  // namespace reuse::ort
