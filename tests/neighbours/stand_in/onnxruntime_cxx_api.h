// Stands in for ONNX Runtime's header of this name, which no Python package brings: as much of its C++ API as the
// program of docs/neighbours.md uses, for the C ABI of the real library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <vector>

#include "ort_abi.h"

enum OrtAllocatorType : int { OrtArenaAllocator = 1 };
enum OrtMemType : int { OrtMemTypeDefault = 0 };

extern "C" const reuse::ort::ApiBase* OrtGetApiBase();

namespace Ort {
namespace detail {

// Slots of OrtApi beyond those that our library uses.
enum : size_t {
  kCreateEnv = 3,
  kCreateSession = 7,
  kRun = 9,
  kCreateSessionOptions = 10,
  kCreateTensorWithData = 49,
  kCreateCpuMemoryInfo = 69,
  kReleaseEnv = 92,
  kReleaseMemoryInfo = 94,
  kReleaseSession = 95,
  kReleaseValue = 96,
  kReleaseSessionOptions = 100,
  kRegisterCustomOpsLibrary = 228,
};

template <typename Result, typename... Arguments>
Result invoke(size_t slot, Arguments... arguments) {
  static const reuse::ort::Api* const api = OrtGetApiBase()->get_api(reuse::ort::kApiVersion);
  using Function = Result(REUSE_ORT_CALL*)(Arguments...);
  return api->get<Function>(static_cast<reuse::ort::Slot>(slot))(arguments...);
}

// Calls a function of the C API; throws what it says is wrong.
template <typename... Arguments>
void call(size_t slot, Arguments... arguments) {
  auto* status = invoke<reuse::ort::Status*>(slot, arguments...);
  if (status == nullptr) return;
  const std::runtime_error error(
      invoke<const char*>(reuse::ort::kGetErrorMessage, static_cast<const reuse::ort::Status*>(status)));
  invoke<void>(reuse::ort::kReleaseStatus, status);
  throw error;
}

// An object of the C API, which goes with this one.
template <size_t release_slot>
class Owner {
 public:
  void* get() const { return object_.get(); }

 protected:
  template <typename... Arguments>
  explicit Owner(size_t slot, Arguments... arguments) {
    void* created = nullptr;
    call(slot, arguments..., &created);
    own(created);
  }
  Owner() = default;
  void own(void* object) {
    object_ = {object, [](void* each) { invoke<void>(release_slot, each); }};
  }

 private:
  std::unique_ptr<void, void (*)(void*)> object_{nullptr, nullptr};
};

}  // namespace detail

struct Env : detail::Owner<detail::kReleaseEnv> {
  Env() : Owner(detail::kCreateEnv, /*warnings*/ 2, "") {}
};

struct SessionOptions : detail::Owner<detail::kReleaseSessionOptions> {
  SessionOptions() : Owner(detail::kCreateSessionOptions) {}
  void RegisterCustomOpsLibrary(const char* name) { detail::call(detail::kRegisterCustomOpsLibrary, get(), name); }
};

struct MemoryInfo : detail::Owner<detail::kReleaseMemoryInfo> {
  static MemoryInfo CreateCpu(OrtAllocatorType type, OrtMemType memory) { return {type, memory}; }

 private:
  MemoryInfo(OrtAllocatorType type, OrtMemType memory) : Owner(detail::kCreateCpuMemoryInfo, type, memory) {}
};

struct Value : detail::Owner<detail::kReleaseValue> {
  explicit Value(void* object) { own(object); }

  template <typename Element>
  static Value CreateTensor(const MemoryInfo& memory, float* data, size_t count, const int64_t* shape, size_t rank) {
    void* created = nullptr;
    detail::call(detail::kCreateTensorWithData, memory.get(), data, count * sizeof(Element), shape, rank,
                 reuse::ort::kFloat, &created);
    return Value(created);
  }

  template <typename Element>
  const Element* GetTensorData() const {
    Element* data = nullptr;
    detail::call(reuse::ort::kGetTensorMutableData, get(), &data);
    return data;
  }
};

struct RunOptions {
  explicit RunOptions(std::nullptr_t) {}
};

struct Session : detail::Owner<detail::kReleaseSession> {
  Session(const Env& env, const char* path, const SessionOptions& options)
      : Owner(detail::kCreateSession, env.get(), path, options.get()) {}

  std::vector<Value> Run(const RunOptions&, const char* const* inputs, const Value* values, size_t count,
                         const char* const* outputs, size_t output_count) {
    std::vector<void*> given, found(output_count);
    for (size_t i = 0; i < count; ++i) given.push_back(values[i].get());
    detail::call(detail::kRun, get(), static_cast<void*>(nullptr), inputs, given.data(), count, outputs, output_count,
                 found.data());
    return {found.begin(), found.end()};
  }
};

}  // namespace Ort
