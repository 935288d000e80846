// Memory and threads for kernels that are called from outside ONNX Runtime.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "reuse/runtime.h"

namespace reuse {

class AlignedAllocator final : public Allocator {
 public:
  void* allocate(size_t bytes) override;
  void release(void* memory, size_t bytes) noexcept override;
};

// A few threads that live as long as this object, started when there is work to share out for the first time; the
// caller takes part.
class Workers final : public Parallel {
 public:
  explicit Workers(int64_t threads) : wanted_(threads) {}
  ~Workers() override;
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;
  void run(int64_t count, const std::function<void(int64_t)>& body) override;

 private:
  void serve();
  void take(std::unique_lock<std::mutex>& lock);

  int64_t wanted_;
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable work_, done_;
  const std::function<void(int64_t)>* body_ = nullptr;
  int64_t next_ = 0, count_ = 0, running_ = 0;
  std::exception_ptr failure_;
  bool stop_ = false;
};

}  // namespace reuse
