// Device memory for the runs of all CUDA kernels of a session.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "api.h"

namespace reuse::ort {

// A buffer per stream, which all kernels on the stream share, as their work follows one another there. Memory of ONNX
// Runtime's allocator cannot be given back when a run is enqueued: another thread's run, on a stream of its own, could
// get it while ours still waits. And what a captured CUDA graph uses must stay. So buffers only grow, what was outgrown
// stays too (together less than twice the largest), and all goes with the session's last kernel.
class StreamScratch {
 public:
  StreamScratch() = default;
  ~StreamScratch();
  StreamScratch(const StreamScratch&) = delete;
  StreamScratch& operator=(const StreamScratch&) = delete;

  // Memory of the stream's, and the lock that keeps others from enqueuing on it meanwhile.
  class Lease {
   public:
    Lease(std::unique_lock<std::mutex> lock, void* memory) : lock_(std::move(lock)), memory_(memory) {}
    void* data() const { return memory_; }

   private:
    std::unique_lock<std::mutex> lock_;
    void* memory_;
  };

  Lease lease(int device, void* stream, const std::shared_ptr<KernelAllocator>& allocator, size_t bytes);

 private:
  struct Buffer {
    std::shared_ptr<KernelAllocator> allocator;
    void* memory;
    size_t bytes;
  };

  std::mutex mutex_;
  std::map<std::pair<int, void*>, std::vector<Buffer>> buffers_;  // the last of a stream is in use
};

}  // namespace reuse::ort
