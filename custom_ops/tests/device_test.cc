// What is asked of a GPU outside of runs: on which device, while captures are heeded how, and what is left after
// errors.
#include <cstring>
#include <functional>
#include <numeric>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "reuse/cuda_device.h"
#include "test.h"

namespace reuse::testing {
namespace {

using cuda::CaptureMode;

constexpr int kOwnDevice = 1, kOtherDevice = 3;

// Writes down what it is asked. Enqueued work is done when its stream is waited for, and not before.
class RecordingApi final : public cuda::DeviceApi {
 public:
  std::vector<std::string> calls;
  std::string refused;  // the call that throws
  CaptureMode mode = CaptureMode::kGlobal;
  int device = kOtherDevice;  // of the thread
  int held = 0;               // streams and host memory

  CaptureMode exchange_capture_mode(CaptureMode wanted) override {
    ask("mode " + std::to_string(static_cast<int>(wanted)));
    return std::exchange(mode, wanted);
  }
  int current_device() override { return device; }
  void set_device(int wanted) override {
    ask("device " + std::to_string(wanted));
    device = wanted;
  }
  void* create_stream() override {
    ask_in_scope("create stream");
    ++held;
    return &stream_;
  }
  void destroy_stream(void* stream) noexcept override {
    calls.push_back("destroy stream");
    held -= stream == &stream_;
  }
  void* allocate_host(size_t bytes) override {
    ask_in_scope("allocate host");
    ++held;
    return new char[bytes];
  }
  void release_host(void* memory) noexcept override {
    calls.push_back("release host");
    --held;
    delete[] static_cast<char*>(memory);
  }
  void copy(void* to, const void* from, size_t bytes, void* stream) override {
    EXPECT(stream == &stream_);
    ask_in_scope("copy");
    enqueued_.push_back([=] { std::memcpy(to, from, bytes); });
  }
  void clear(void* memory, size_t bytes, void* stream) override {
    EXPECT(stream == &stream_);
    ask_in_scope("clear");
    enqueued_.push_back([=] { std::memset(memory, 0, bytes); });
  }
  void wait(void* stream) override {
    EXPECT(stream == &stream_);
    ask_in_scope("wait");
    for (const auto& work : std::exchange(enqueued_, {})) work();
  }

  void ask_in_scope(const std::string& call) {
    EXPECT(mode == CaptureMode::kRelaxed && device == kOwnDevice, << call);
    ask(call);
  }

 private:
  void ask(const std::string& call) {
    calls.push_back(call);
    if (call == refused) throw std::runtime_error(call + " is refused");
  }

  char stream_ = 0;
  std::vector<std::function<void()>> enqueued_;
};

bool is_as_before(const RecordingApi& api) { return api.mode == CaptureMode::kGlobal && api.device == kOtherDevice; }

TEST(a_device_scope_relaxes_captures_before_it_changes_the_device_and_ends_the_other_way_round) {
  RecordingApi api;
  {
    const cuda::DeviceScope scope(api, kOwnDevice);
    api.calls.push_back("work");
  }
  EXPECT((api.calls == std::vector<std::string>{"mode 2", "device 1", "work", "device 3", "mode 0"}));
  EXPECT(is_as_before(api));
}

TEST(a_device_scope_leaves_a_thread_alone_that_has_the_device) {
  RecordingApi api;
  api.device = kOwnDevice;
  api.mode = CaptureMode::kThreadLocal;
  {
    const cuda::DeviceScope outer(api, kOwnDevice);
    const cuda::DeviceScope inner(api, kOwnDevice);
  }
  EXPECT((api.calls == std::vector<std::string>{"mode 2", "mode 2", "mode 2", "mode 1"}));
  EXPECT(api.mode == CaptureMode::kThreadLocal && api.device == kOwnDevice);
}

TEST(a_device_scope_ends_with_an_exception_too) {
  RecordingApi api;
  expect_throw<std::logic_error>("body", [&] {
    const cuda::DeviceScope scope(api, kOwnDevice);
    throw std::logic_error("body");
  });
  EXPECT(is_as_before(api));
  api.refused = "device 1";
  expect_throw<std::runtime_error>("device 1 is refused", [&] { const cuda::DeviceScope scope(api, kOwnDevice); });
  EXPECT(is_as_before(api));
  api.refused = "device 3";
  {
    const cuda::DeviceScope scope(api, kOwnDevice);
  }
  EXPECT(api.mode == CaptureMode::kGlobal && api.device == kOwnDevice, << "nothing better can be done");
}

TEST(a_copy_stream_has_done_what_it_says_and_leaves_the_thread_as_it_was) {
  RecordingApi api;
  std::vector<int32_t> from(70001), device(from.size()), to(from.size());
  std::iota(from.begin(), from.end(), 1);
  const size_t bytes = from.size() * sizeof(int32_t);
  {
    cuda::CopyStream stream(api, kOwnDevice);
    EXPECT(is_as_before(api) && api.held == 2);
    stream.copy(device.data(), from.data(), bytes);
    EXPECT(device == from && is_as_before(api));
    stream.read(to.data(), device.data(), bytes);
    EXPECT(to == from && is_as_before(api));
    stream.clear(device.data(), bytes);
    EXPECT(device == std::vector<int32_t>(from.size()) && is_as_before(api));
    stream.read(nullptr, nullptr, 0);
  }
  EXPECT(is_as_before(api) && api.held == 0);
}

TEST(a_copy_stream_survives_what_the_device_refuses) {
  RecordingApi api;
  const int64_t value = 7;
  int64_t read = 0;
  {
    cuda::CopyStream stream(api, kOwnDevice);
    for (const char* call : {"copy", "wait", "device 1", "mode 2"}) {
      api.refused = call;
      expect_throw<std::runtime_error>("is refused", [&] { stream.read(&read, &value, sizeof read); });
      EXPECT(is_as_before(api) && read == 0, << call);
    }
    api.refused.clear();
    stream.read(&read, &value, sizeof read);
    EXPECT(read == 7);
    api.refused = "wait";
  }
  EXPECT(is_as_before(api) && api.held == 0);
  api.refused = "allocate host";
  expect_throw<std::runtime_error>("is refused", [&] { cuda::CopyStream stream(api, kOwnDevice); });
  EXPECT(is_as_before(api) && api.held == 0);
}

TEST(a_device_has_one_copy_stream_for_as_long_as_it_is_used) {
  RecordingApi api;
  cuda::CopyStreams streams;
  auto first = streams.get(api, kOwnDevice);
  EXPECT(streams.get(api, kOwnDevice) == first && first->device() == kOwnDevice && api.held == 2);
  first.reset();
  EXPECT(api.held == 0);
  EXPECT(streams.get(api, kOwnDevice) != nullptr);
}

// Memory of a device, which must be the thread's when it is asked.
class DeviceHeap final : public Allocator {
 public:
  explicit DeviceHeap(RecordingApi& api) : api_(api) {}
  void* allocate(size_t bytes) override {
    api_.ask_in_scope("allocate");
    return *held.insert(new char[bytes]).first;
  }
  void release(void* memory, size_t) noexcept override {
    in_scope = api_.device == kOwnDevice;
    held.erase(static_cast<char*>(memory));
    delete[] static_cast<char*>(memory);
  }
  std::set<char*> held;
  bool in_scope = false;

 private:
  RecordingApi& api_;
};

TEST(device_memory_is_made_and_given_back_on_its_device) {
  RecordingApi api;
  const auto heap = std::make_shared<DeviceHeap>(api);
  const auto allocator = std::make_shared<cuda::DeviceAllocator>(api, kOwnDevice, heap);
  {
    const cuda::DeviceMemory memory(allocator, 8);
    EXPECT(heap->held.count(static_cast<char*>(memory.data())) == 1 && is_as_before(api));
  }
  EXPECT(heap->held.empty() && heap->in_scope && is_as_before(api));
  {
    const cuda::DeviceMemory memory(allocator, 8);
    api.refused = "device 1";
  }
  EXPECT(heap->held.empty() && !heap->in_scope && is_as_before(api), << "the device is lost, its memory is not kept");
  api.refused = "allocate";
  expect_throw<std::runtime_error>("is refused", [&] { const cuda::DeviceMemory memory(allocator, 8); });
  EXPECT(heap->held.empty() && is_as_before(api));
}

}  // namespace
}  // namespace reuse::testing
