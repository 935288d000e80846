// Memory and threads for what runs outside of a run of ONNX Runtime.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <list>
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

// Threads that help whoever has work to share out, several callers at once. They are started when they are needed for
// the first time, and live as long as this object.
class Workers {
 public:
  Workers() = default;
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // Runs `body(0) ... body(count - 1)` on the calling thread and up to `threads - 1` others; a body may call this, too.
  void run(int64_t threads, int64_t count, const std::function<void(int64_t)>& body);

 private:
  struct Job {
    const std::function<void(int64_t)>& body;
    int64_t next, count;
    int64_t places;       // for threads that may still come to help
    int64_t helpers = 0;  // that are at work
    std::exception_ptr failure;
    std::condition_variable left;
  };

  void serve();
  Job* find_job();
  static void take(Job& job, std::unique_lock<std::mutex>& lock);

  std::mutex mutex_;
  std::condition_variable work_;
  std::list<Job*> jobs_;
  std::vector<std::thread> threads_;
  bool stop_ = false;
};

// The process's workers, as many of them as a call wants.
class SharedWorkers final : public Parallel {
 public:
  explicit SharedWorkers(int64_t threads) : threads_(threads) {}
  void run(int64_t count, const std::function<void(int64_t)>& body) override;

 private:
  int64_t threads_;
};

}  // namespace reuse
