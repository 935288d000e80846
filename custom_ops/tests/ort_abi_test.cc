// Compares ort_abi.h with ONNX Runtime's own header, slot by slot. Compiling this file is the test; it is built when
// ORT_INCLUDE_DIR names the folder of onnxruntime_c_api.h, from any version of 1.18 or later.
#include "../ort/ort_abi.h"

#include <onnxruntime_c_api.h>

namespace abi = reuse::ort;

#define SLOT(name, member) \
  static_assert(offsetof(OrtApi, member) == static_cast<size_t>(abi::name) * sizeof(void*), #member)

SLOT(kCreateStatus, CreateStatus);
SLOT(kGetErrorMessage, GetErrorMessage);
SLOT(kCreateCustomOpDomain, CreateCustomOpDomain);
SLOT(kCustomOpDomainAdd, CustomOpDomain_Add);
SLOT(kAddCustomOpDomain, AddCustomOpDomain);
SLOT(kGetTensorMutableData, GetTensorMutableData);
SLOT(kCreateTensorTypeAndShapeInfo, CreateTensorTypeAndShapeInfo);
SLOT(kSetTensorElementType, SetTensorElementType);
SLOT(kSetDimensions, SetDimensions);
SLOT(kGetTensorElementType, GetTensorElementType);
SLOT(kGetDimensionsCount, GetDimensionsCount);
SLOT(kGetDimensions, GetDimensions);
SLOT(kGetSymbolicDimensions, GetSymbolicDimensions);
SLOT(kGetTensorTypeAndShape, GetTensorTypeAndShape);
SLOT(kMemoryInfoGetId, MemoryInfoGetId);
SLOT(kAllocatorAlloc, AllocatorAlloc);
SLOT(kAllocatorFree, AllocatorFree);
SLOT(kAllocatorGetInfo, AllocatorGetInfo);
SLOT(kKernelInfoGetAttributeFloat, KernelInfoGetAttribute_float);
SLOT(kKernelInfoGetAttributeInt64, KernelInfoGetAttribute_int64);
SLOT(kKernelInfoGetAttributeString, KernelInfoGetAttribute_string);
SLOT(kKernelContextGetInputCount, KernelContext_GetInputCount);
SLOT(kKernelContextGetInput, KernelContext_GetInput);
SLOT(kKernelContextGetOutput, KernelContext_GetOutput);
SLOT(kReleaseStatus, ReleaseStatus);
SLOT(kReleaseTensorTypeAndShapeInfo, ReleaseTensorTypeAndShapeInfo);
SLOT(kReleaseAllocator, ReleaseAllocator);
SLOT(kKernelInfoGetAttributeArrayFloat, KernelInfoGetAttributeArray_float);
SLOT(kKernelInfoGetAttributeArrayInt64, KernelInfoGetAttributeArray_int64);
SLOT(kKernelContextGetGpuComputeStream, KernelContext_GetGPUComputeStream);
SLOT(kKernelInfoGetInputCount, KernelInfo_GetInputCount);
SLOT(kHasSessionConfigEntry, HasSessionConfigEntry);
SLOT(kGetSessionConfigEntry, GetSessionConfigEntry);
SLOT(kKernelInfoGetNodeName, KernelInfo_GetNodeName);
SLOT(kKernelInfoGetConstantInputTensor, KernelInfoGetConstantInput_tensor);
SLOT(kKernelContextGetResource, KernelContext_GetResource);
SLOT(kShapeInferContextGetInputCount, ShapeInferContext_GetInputCount);
SLOT(kShapeInferContextGetInputTypeShape, ShapeInferContext_GetInputTypeShape);
SLOT(kShapeInferContextGetAttribute, ShapeInferContext_GetAttribute);
SLOT(kShapeInferContextSetOutputTypeShape, ShapeInferContext_SetOutputTypeShape);
SLOT(kSetSymbolicDimensions, SetSymbolicDimensions);
SLOT(kReadOpAttr, ReadOpAttr);
SLOT(kKernelContextParallelFor, KernelContext_ParallelFor);
SLOT(kKernelInfoGetAllocator, KernelInfoGetAllocator);

#define MEMBER(ours, theirs) static_assert(offsetof(abi::CustomOp, ours) == offsetof(OrtCustomOp, theirs), #theirs)

MEMBER(version, version);
MEMBER(create_kernel, CreateKernel);
MEMBER(get_name, GetName);
MEMBER(get_execution_provider, GetExecutionProviderType);
MEMBER(get_input_type, GetInputType);
MEMBER(get_input_count, GetInputTypeCount);
MEMBER(get_output_type, GetOutputType);
MEMBER(get_output_count, GetOutputTypeCount);
MEMBER(kernel_compute, KernelCompute);
MEMBER(kernel_destroy, KernelDestroy);
MEMBER(get_input_characteristic, GetInputCharacteristic);
MEMBER(get_output_characteristic, GetOutputCharacteristic);
MEMBER(get_input_memory_type, GetInputMemoryType);
MEMBER(get_variadic_input_min_arity, GetVariadicInputMinArity);
MEMBER(get_variadic_output_homogeneity, GetVariadicOutputHomogeneity);
MEMBER(create_kernel_v2, CreateKernelV2);
MEMBER(kernel_compute_v2, KernelComputeV2);
MEMBER(infer_output_shape, InferOutputShapeFn);
MEMBER(get_start_version, GetStartVersion);
MEMBER(get_end_version, GetEndVersion);
MEMBER(release_alias_map, ReleaseAliasMap);

static_assert(abi::kFail == ORT_FAIL && abi::kInvalidArgument == ORT_INVALID_ARGUMENT);
static_assert(abi::kRuntimeException == ORT_RUNTIME_EXCEPTION);
static_assert(abi::kFloat == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
static_assert(abi::kInt32 == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32);
static_assert(abi::kInt64 == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64);
static_assert(abi::kBool == ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL);
static_assert(abi::kUint8 == ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8);
static_assert(abi::kInt8 == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8);
static_assert(abi::kFloat16 == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16);
static_assert(abi::kAttributeInt == ORT_OP_ATTR_INT && abi::kAttributeInts == ORT_OP_ATTR_INTS);
static_assert(abi::kAttributeFloat == ORT_OP_ATTR_FLOAT && abi::kAttributeFloats == ORT_OP_ATTR_FLOATS);
static_assert(abi::kAttributeString == ORT_OP_ATTR_STRING);
static_assert(abi::kOptional == INPUT_OUTPUT_OPTIONAL && abi::kMemoryDefault == OrtMemTypeDefault);

#if ORT_API_VERSION >= 24
SLOT(kHardwareDeviceGetType, HardwareDevice_Type);
SLOT(kGetEpApi, GetEpApi);

static_assert(offsetof(OrtEpApi, CreateEpDevice) == offsetof(abi::EpApi, create_ep_device), "CreateEpDevice");
static_assert(static_cast<int>(abi::kHardwareCpu) == OrtHardwareDeviceType_CPU, "OrtHardwareDeviceType_CPU");

#define EP_MEMBER(ours, theirs) static_assert(offsetof(abi::Ep, ours) == offsetof(OrtEp, theirs), #theirs)

EP_MEMBER(version, ort_version_supported);
EP_MEMBER(get_name, GetName);
EP_MEMBER(get_capability, GetCapability);
EP_MEMBER(not_used, Compile);
static_assert(sizeof(abi::Ep) == offsetof(OrtEp, IsConcurrentRunSupported) + sizeof(void*), "the last of version 24");

#define FACTORY_MEMBER(ours, theirs) \
  static_assert(offsetof(abi::EpFactory, ours) == offsetof(OrtEpFactory, theirs), #theirs)

FACTORY_MEMBER(version, ort_version_supported);
FACTORY_MEMBER(get_name, GetName);
FACTORY_MEMBER(get_vendor, GetVendor);
FACTORY_MEMBER(get_supported_devices, GetSupportedDevices);
FACTORY_MEMBER(create_ep, CreateEp);
FACTORY_MEMBER(release_ep, ReleaseEp);
FACTORY_MEMBER(get_vendor_id, GetVendorId);
FACTORY_MEMBER(get_version, GetVersion);
FACTORY_MEMBER(validate_compiled_model, ValidateCompiledModelCompatibilityInfo);
FACTORY_MEMBER(create_allocator, CreateAllocator);
FACTORY_MEMBER(release_allocator, ReleaseAllocator);
FACTORY_MEMBER(create_data_transfer, CreateDataTransfer);
FACTORY_MEMBER(is_stream_aware, IsStreamAware);
FACTORY_MEMBER(create_sync_stream, CreateSyncStreamForDevice);
FACTORY_MEMBER(get_num_custom_op_domains, GetNumCustomOpDomains);
FACTORY_MEMBER(get_custom_op_domains, GetCustomOpDomains);
#endif
