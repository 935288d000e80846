// Device memory for the runs of all CUDA kernels of a session.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "reuse/runtime.h"

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

  // Memory of the stream's, and the lock that keeps others from enqueuing on it meanwhile; other streams are free.
  class Lease {
   public:
    Lease(std::unique_lock<std::mutex> lock, void* memory) : lock_(std::move(lock)), memory_(memory) {}
    void* data() const { return memory_; }

   private:
    std::unique_lock<std::mutex> lock_;
    void* memory_;
  };

  // The allocator is that of the stream's device.
  Lease lease(int device, void* stream, const std::shared_ptr<Allocator>& allocator, size_t bytes);

 private:
  struct Buffer {
    std::shared_ptr<Allocator> allocator;
    void* memory;
    size_t bytes;
  };
  struct Stream {
    std::mutex mutex;             // of a lease
    std::vector<Buffer> buffers;  // the last is in use
  };

  Stream& stream_of(int device, void* stream);

  std::mutex mutex_;  // of the map; what it holds stays where it is
  std::map<std::pair<int, void*>, Stream> streams_;
};

}  // namespace reuse::ort
