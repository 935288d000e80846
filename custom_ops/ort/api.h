// Thin C++ over ort_abi.h: errors as exceptions, tensors as views, the runtime's allocator and threads.
#pragma once

#include <cstdint>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "ort_abi.h"
#include "reuse/checked.h"
#include "reuse/runtime.h"

namespace reuse::ort {

// The runtime's function table, set when the library is registered.
const Api& api();
void set_api(const Api* api);

// Calls the slot with the given arguments; throws std::runtime_error with the runtime's message if it returns a status.
template <typename... Arguments>
void call(Slot slot, Arguments... arguments);

// Makes a status from a message, to be returned to the runtime.
Status* make_status(ErrorCode code, const char* message) noexcept;

// Runs `body`; turns an exception into a status.
template <typename Body>
Status* guarded(const Body& body) noexcept;

// A tensor argument of a kernel. `data` is null if an optional input is absent.
struct TensorView {
  void* data = nullptr;
  std::vector<int64_t> shape;
  ElementType type = kUndefined;

  bool present() const { return data != nullptr || !shape.empty(); }
  int64_t size() const;
  template <typename T>
  const T* as() const {
    return static_cast<const T*>(data);
  }
};

// "2x3x4", for messages.
std::string to_string(const std::vector<int64_t>& shape);

TensorView view_of(const Value* value);
TensorView input(KernelContext* context, size_t index);
// Null if the node lacks this optional output.
template <typename T>
T* output(KernelContext* context, size_t index, const std::vector<int64_t>& shape);
size_t input_count(const KernelContext* context);

// The allocator of the kernel's device.
class KernelAllocator {
 public:
  explicit KernelAllocator(const KernelInfo* info);
  ~KernelAllocator();
  KernelAllocator(const KernelAllocator&) = delete;
  KernelAllocator& operator=(const KernelAllocator&) = delete;
  OrtAllocatorHandle* handle() const { return handle_; }
  // Index of the device that the memory is on.
  int device() const;

 private:
  OrtAllocatorHandle* handle_ = nullptr;
};

// Its memory.
class ScratchAllocator final : public Allocator {
 public:
  explicit ScratchAllocator(const KernelAllocator& allocator) : handle_(allocator.handle()) {}
  void* allocate(size_t bytes) override;
  void release(void* memory, size_t bytes) noexcept override;

 private:
  OrtAllocatorHandle* handle_;
};

// The session's thread pool.
class SessionParallel final : public Parallel {
 public:
  explicit SessionParallel(const KernelContext* context) : context_(context) {}
  void run(int64_t count, const std::function<void(int64_t)>& body) override;

 private:
  const KernelContext* context_;
};

template <typename... Arguments>
void call(Slot slot, Arguments... arguments) {
  Status* status = api().get<Status*(REUSE_ORT_CALL*)(Arguments...)>(slot)(arguments...);
  if (status == nullptr) return;
  const std::string message = api().get<const char*(REUSE_ORT_CALL*)(const Status*)>(kGetErrorMessage)(status);
  api().get<void(REUSE_ORT_CALL*)(Status*)>(kReleaseStatus)(status);
  throw std::runtime_error(message);
}

template <typename Body>
Status* guarded(const Body& body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const std::invalid_argument& error) {
    return make_status(kInvalidArgument, error.what());
  } catch (const std::bad_alloc&) {
    return make_status(kRuntimeException, "out of memory; run smaller batches or inputs");
  } catch (const std::exception& error) {
    return make_status(kFail, error.what());
  }
}

template <typename T>
T* output(KernelContext* context, size_t index, const std::vector<int64_t>& shape) {
  checked::product(shape, "the output");
  Value* value = nullptr;
  call(kKernelContextGetOutput, context, index, shape.data(), shape.size(), &value);
  if (value == nullptr) return nullptr;
  void* data = nullptr;
  call(kGetTensorMutableData, value, &data);
  return static_cast<T*>(data);
}

}  // namespace reuse::ort
