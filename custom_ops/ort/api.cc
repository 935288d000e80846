#include "api.h"

#include <exception>
#include <mutex>
#include <stdexcept>

#include "reuse/checked.h"

namespace reuse::ort {
namespace {

const Api* g_api = nullptr;

struct ShapeInfo {
  TypeAndShape* info = nullptr;
  explicit ShapeInfo(const Value* value) { call(kGetTensorTypeAndShape, value, &info); }
  ~ShapeInfo() { api().get<void(REUSE_ORT_CALL*)(TypeAndShape*)>(kReleaseTensorTypeAndShapeInfo)(info); }
  ShapeInfo(const ShapeInfo&) = delete;
  ShapeInfo& operator=(const ShapeInfo&) = delete;
};

}  // namespace

const Api& api() { return *g_api; }
void set_api(const Api* api) { g_api = api; }

Status* make_status(ErrorCode code, const char* message) noexcept {
  return api().get<Status*(REUSE_ORT_CALL*)(ErrorCode, const char*)>(kCreateStatus)(code, message);
}

int64_t TensorView::size() const { return checked::product(shape, "a tensor"); }

std::string to_string(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t extent : shape) text += (text.empty() ? "" : "x") + std::to_string(extent);
  return "[" + text + "]";
}

TensorView view_of(const Value* value) {
  TensorView view;
  if (value == nullptr) return view;
  const ShapeInfo shape(value);
  size_t rank = 0;
  call(kGetDimensionsCount, static_cast<const TypeAndShape*>(shape.info), &rank);
  view.shape.resize(rank);
  call(kGetDimensions, static_cast<const TypeAndShape*>(shape.info), view.shape.data(), rank);
  call(kGetTensorElementType, static_cast<const TypeAndShape*>(shape.info), &view.type);
  // The runtime has no reader for const values of this version; the data is not written through this pointer.
  call(kGetTensorMutableData, const_cast<Value*>(value), &view.data);
  return view;
}

size_t input_count(const KernelContext* context) {
  size_t count = 0;
  call(kKernelContextGetInputCount, context, &count);
  return count;
}

TensorView input(KernelContext* context, size_t index) {
  if (index >= input_count(context)) return {};
  const Value* value = nullptr;
  call(kKernelContextGetInput, static_cast<const KernelContext*>(context), index, &value);
  return view_of(value);
}

KernelAllocator::KernelAllocator(const KernelInfo* info) {
  call(kKernelInfoGetAllocator, info, kMemoryDefault, &handle_);
}

KernelAllocator::~KernelAllocator() {
  if (handle_ != nullptr) api().get<void(REUSE_ORT_CALL*)(OrtAllocatorHandle*)>(kReleaseAllocator)(handle_);
}

int KernelAllocator::device() const {
  const MemoryInfo* info = nullptr;
  call(kAllocatorGetInfo, static_cast<const OrtAllocatorHandle*>(handle_), &info);
  int device = 0;
  call(kMemoryInfoGetId, info, &device);
  return device;
}

void* ScratchAllocator::allocate(size_t bytes) {
  void* memory = nullptr;
  call(kAllocatorAlloc, handle_, bytes == 0 ? size_t{1} : bytes, &memory);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void ScratchAllocator::release(void* memory, size_t) noexcept {
  Status* status = api().get<Status*(REUSE_ORT_CALL*)(OrtAllocatorHandle*, void*)>(kAllocatorFree)(handle_, memory);
  // Freeing what the same allocator gave cannot fail in a way that we could mend.
  if (status != nullptr) api().get<void(REUSE_ORT_CALL*)(Status*)>(kReleaseStatus)(status);
}

void SessionParallel::run(int64_t count, const std::function<void(int64_t)>& body) {
  if (count <= 0) return;
  if (count == 1) {
    body(0);
    return;
  }
  struct Job {
    const std::function<void(int64_t)>& body;
    std::mutex mutex;
    std::exception_ptr error;
  } job{body, {}, nullptr};
  // Exceptions must not cross the runtime's C interface.
  void (*step)(void*, size_t) = [](void* data, size_t index) {
    Job& own = *static_cast<Job*>(data);
    try {
      own.body(static_cast<int64_t>(index));
    } catch (...) {
      const std::lock_guard<std::mutex> lock(own.mutex);
      if (!own.error) own.error = std::current_exception();
    }
  };
  call(kKernelContextParallelFor, context_, step, static_cast<size_t>(count), size_t{0}, static_cast<void*>(&job));
  if (job.error) std::rethrow_exception(job.error);
}

}  // namespace reuse::ort
