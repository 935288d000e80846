// Settings of CUDA kernels: the environment, and what ONNX Runtime tells of the provider's options.
#include "../ort/cuda_settings.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>
#include <string>

#include "reuse/cuda_operators.h"
#include "test.h"

namespace reuse::testing {
namespace {

using ort::CudaSettings;

// A variable of the environment while the test runs.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) { ::setenv(name, value, 1); }
  ~Variable() { ::unsetenv(name_); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
};

TEST(settings_of_the_environment_are_read) {
  CudaSettings settings = CudaSettings::of_environment();
  EXPECT(!settings.tf32 && !settings.stages_timed);
  const Variable tf32("REUSE_CUDA_TF32", "0"), stages("REUSE_CUDA_STAGES", "1"), memory("REUSE_CUDA_TABLE_MIB", "3");
  settings = CudaSettings::of_environment();
  EXPECT(settings.tf32 == false && settings.stages_timed);
  EXPECT(cuda::table_memory() == 3 << 20);
  const Variable on("REUSE_CUDA_TF32", "1"), off("REUSE_CUDA_STAGES", "0");
  settings = CudaSettings::of_environment();
  EXPECT(settings.tf32 == true && !settings.stages_timed);
}

TEST(settings_that_mean_nothing_are_refused) {
  for (const char* name : {"REUSE_CUDA_TF32", "REUSE_CUDA_STAGES"}) {
    for (const char* value : {"", "2", "on", "true", "01", " 1"}) {
      const Variable variable(name, value);
      expect_throw<std::invalid_argument>(
          std::string(name) + " in the environment is '" + value + "': set it to 0 or 1",
          [] { CudaSettings::of_environment(); });
    }
  }
  for (const char* value : {"", "0", "-1", "1048577", "99999999999999999999", "512MiB", "1.5"}) {
    const Variable variable("REUSE_CUDA_TABLE_MIB", value);
    const std::string message = std::string("REUSE_CUDA_TABLE_MIB in the environment is '") + value +
                                "': set it to a whole number from 1 to 1048576, or do not set it";
    expect_throw<std::invalid_argument>(message, [] { CudaSettings::of_environment(); });
    expect_throw<std::invalid_argument>(message, [] { cuda::table_memory(); });
  }
}

// A runtime whose streams have these resources, by id; a missing one is answered with `missing`.
struct FakeRuntime {
  static inline std::map<int, uintptr_t> resources;
  static inline bool refuses_missing = false;
  static inline int released = 0;

  static ort::Status* read(const ort::KernelContext*, int version, int id, void** value) {
    static char status;
    EXPECT(version == 3);
    const auto found = resources.find(id);
    const uintptr_t option = found == resources.end() ? 0 : found->second;
    std::memcpy(static_cast<void*>(value), &option, sizeof option);  // as the runtime gives it: in place of a pointer
    return found == resources.end() && refuses_missing ? reinterpret_cast<ort::Status*>(&status) : nullptr;
  }
  static void release(ort::Status*) { ++released; }

  FakeRuntime() {
    slots_[ort::kKernelContextGetResource] = reinterpret_cast<void (*)()>(&read);
    slots_[ort::kReleaseStatus] = reinterpret_cast<void (*)()>(&release);
    ort::set_api(reinterpret_cast<const ort::Api*>(slots_));
  }
  ~FakeRuntime() { ort::set_api(nullptr); }

 private:
  void (*slots_[512])() = {};
};

TEST(what_the_provider_says_of_tf32_is_told_from_what_it_does_not_say) {
  const FakeRuntime runtime;
  const auto allows = [](std::map<int, uintptr_t> resources, bool refuses_missing) {
    FakeRuntime::resources = std::move(resources);
    FakeRuntime::refuses_missing = refuses_missing;
    return ort::provider_allows_tf32(nullptr);
  };
  EXPECT(allows({{10003, 0x1000}, {10011, 1}}, true) == true);
  EXPECT(allows({{10003, 0x1000}, {10011, 0}}, true) == false);
  EXPECT(allows({{10003, 0x1000}, {10011, 0x2000}}, true) == std::nullopt, << "another resource has the place");
  EXPECT(FakeRuntime::released == 0);
  EXPECT(allows({}, false) == std::nullopt, << "a stream that knows no resources answers null");
  EXPECT(allows({}, true) == std::nullopt && FakeRuntime::released == 1);
  EXPECT(allows({{10011, 0}}, true) == std::nullopt && FakeRuntime::released == 2);
}

}  // namespace
}  // namespace reuse::testing
