// A GPU for whoever is not one of the session's runs: statistics, kernels being made or destroyed. Such calls come from
// any thread, whose current device may be another one, and while any other thread captures a CUDA graph. ONNX Runtime
// captures with cudaStreamCaptureModeGlobal (its cuda_graph.cc, CaptureBegin): then what cudaMalloc, cudaMemcpy,
// cudaMemset, cudaDeviceSynchronize and their like do in *any* thread fails and spoils the capture. So everything here
// happens in a DeviceScope and on a non-blocking stream of our own, and no more than that stream is ever waited for.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>

#include "reuse/runtime.h"

namespace reuse::cuda {

// How a thread heeds captures: CUDA's cudaStreamCaptureMode.
enum class CaptureMode { kGlobal, kThreadLocal, kRelaxed };

// What is asked of the CUDA runtime; the tests have one that writes down what it is asked. All but the calls that are
// noexcept throw std::runtime_error with CUDA's message.
class DeviceApi {
 public:
  virtual ~DeviceApi() = default;
  // Sets the calling thread's mode and returns the one before.
  virtual CaptureMode exchange_capture_mode(CaptureMode mode) = 0;
  virtual int current_device() = 0;
  virtual void set_device(int device) = 0;
  // A stream that neither waits for the default stream nor is waited for by it.
  virtual void* create_stream() = 0;
  virtual void destroy_stream(void* stream) noexcept = 0;
  // Page-locked host memory: copies of other host memory are not asynchronous.
  virtual void* allocate_host(size_t bytes) = 0;
  virtual void release_host(void* memory) noexcept = 0;
  // Each is enqueued. The kind of copy is told from the pointers.
  virtual void copy(void* to, const void* from, size_t bytes, void* stream) = 0;
  virtual void clear(void* memory, size_t bytes, void* stream) = 0;
  virtual void wait(void* stream) = 0;
};

// The CUDA runtime's.
DeviceApi& device_api();

// Makes a device the calling thread's, and lets it allocate, copy and wait although another thread may be capturing:
// nothing that happens in the scope shall be part of a graph. Both are as before at the end of the scope.
class DeviceScope {
 public:
  DeviceScope(DeviceApi& api, int device);
  ~DeviceScope();
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  class RelaxedCaptures {
   public:
    explicit RelaxedCaptures(DeviceApi& api);
    ~RelaxedCaptures();
    RelaxedCaptures(const RelaxedCaptures&) = delete;
    RelaxedCaptures& operator=(const RelaxedCaptures&) = delete;

   private:
    DeviceApi& api_;
    CaptureMode before_;
  };

  DeviceApi& api_;
  RelaxedCaptures captures_;  // the device is changed back while captures are still relaxed, as that may allocate
  int device_, before_;
};

// An allocator of a device's memory, from whatever thread it is called.
class DeviceAllocator final : public Allocator {
 public:
  DeviceAllocator(DeviceApi& api, int device, std::shared_ptr<Allocator> own);
  void* allocate(size_t bytes) override;
  void release(void* memory, size_t bytes) noexcept override;
  int device() const { return device_; }

 private:
  DeviceApi& api_;
  int device_;
  std::shared_ptr<Allocator> own_;
};

// Device memory for as long as the object lives.
class DeviceMemory {
 public:
  DeviceMemory(std::shared_ptr<Allocator> allocator, size_t bytes);
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  void* data() const { return data_; }

 private:
  std::shared_ptr<Allocator> allocator_;
  size_t bytes_;
  void* data_;
};

// A stream of our own on a device. Every call but `handle` has done what it says when it returns, may come from any
// thread, and throws std::runtime_error if the device refuses.
class CopyStream {
 public:
  CopyStream(DeviceApi& api, int device);
  ~CopyStream();
  CopyStream(const CopyStream&) = delete;
  CopyStream& operator=(const CopyStream&) = delete;

  int device() const { return device_; }
  // For kernels whose results `wait` makes visible to every other stream.
  void* handle() const { return stream_; }
  void wait();
  // Fills device memory from memory of either side.
  void copy(void* to, const void* from, size_t bytes);
  void clear(void* memory, size_t bytes);
  // Fills host memory from memory of either side.
  void read(void* to, const void* from, size_t bytes);

 private:
  DeviceApi& api_;
  int device_;
  void* stream_ = nullptr;
  std::mutex mutex_;         // of what follows
  void* staging_ = nullptr;  // page-locked
};

// The one stream of each device, for as long as somebody has it.
class CopyStreams {
 public:
  std::shared_ptr<CopyStream> get(DeviceApi& api, int device);

 private:
  std::mutex mutex_;
  std::map<int, std::weak_ptr<CopyStream>> streams_;
};

}  // namespace reuse::cuda
