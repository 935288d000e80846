#include "workers.h"

#include <cstdlib>

namespace reuse {

void* AlignedAllocator::allocate(size_t bytes) {
  constexpr size_t kAlignment = 64;
  if (bytes > SIZE_MAX - kAlignment) throw std::bad_alloc();
  const size_t whole = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  void* memory = std::aligned_alloc(kAlignment, whole == 0 ? kAlignment : whole);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void AlignedAllocator::release(void* memory, size_t) noexcept { std::free(memory); }

Workers::~Workers() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Workers::run(int64_t count, const std::function<void(int64_t)>& body) {
  if (wanted_ <= 1 || count <= 1) {
    for (int64_t i = 0; i < count; ++i) body(i);
    return;
  }
  while (static_cast<int64_t>(threads_.size()) + 1 < wanted_) threads_.emplace_back([this] { serve(); });
  std::unique_lock<std::mutex> lock(mutex_);
  body_ = &body;
  next_ = 0;
  count_ = count;
  failure_ = nullptr;
  work_.notify_all();
  take(lock);
  done_.wait(lock, [this] { return running_ == 0; });
  body_ = nullptr;
  if (failure_) std::rethrow_exception(failure_);
}

void Workers::serve() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    work_.wait(lock, [this] { return stop_ || (body_ != nullptr && next_ < count_); });
    if (stop_) return;
    take(lock);
  }
}

// Takes pieces of the work until none are left; after a failure the rest is not begun.
void Workers::take(std::unique_lock<std::mutex>& lock) {
  while (next_ < count_) {
    const int64_t index = next_++;
    ++running_;
    const std::function<void(int64_t)>& body = *body_;
    lock.unlock();
    std::exception_ptr failure;
    try {
      body(index);
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    --running_;
    if (failure) {
      if (!failure_) failure_ = failure;
      next_ = count_;
    }
  }
  if (running_ == 0) done_.notify_all();
}

}  // namespace reuse
