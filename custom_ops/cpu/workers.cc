#include "reuse/workers.h"

#ifndef _WIN32
#include <pthread.h>
#endif

#include <algorithm>
#include <atomic>
#include <new>

namespace reuse {
namespace {

std::atomic<Workers*> shared{nullptr};

// Never destroyed: a thread may still be at work when static objects are.
Workers& shared_workers() {
#ifndef _WIN32  // there no process forks
  // A forked process has none of the threads, and perhaps a lock that nobody will open: it begins anew.
  static const int registered = pthread_atfork(nullptr, nullptr, [] { shared = nullptr; });
  static_cast<void>(registered);
#endif
  if (Workers* found = shared.load()) return *found;
  auto* fresh = new Workers;
  Workers* found = nullptr;
  if (shared.compare_exchange_strong(found, fresh)) return *fresh;
  delete fresh;  // another thread was faster
  return *found;
}

constexpr std::align_val_t kAlignment{64};

}  // namespace

void* AlignedAllocator::allocate(size_t bytes) {
  // C++ libraries round the size up to the alignment, and not all look whether that overflows.
  if (bytes > SIZE_MAX - static_cast<size_t>(kAlignment)) throw std::bad_alloc();
  return ::operator new(bytes, kAlignment);
}

void AlignedAllocator::release(void* memory, size_t) noexcept { ::operator delete(memory, kAlignment); }

Workers::~Workers() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Workers::run(int64_t threads, int64_t count, const std::function<void(int64_t)>& body) {
  const int64_t helpers = std::min(threads, count) - 1;
  if (helpers <= 0) {
    for (int64_t i = 0; i < count; ++i) body(i);
    return;
  }
  Job job{body, 0, count, helpers, 0, nullptr, {}};
  std::unique_lock<std::mutex> lock(mutex_);
  while (static_cast<int64_t>(threads_.size()) < helpers) threads_.emplace_back([this] { serve(); });
  const auto place = jobs_.insert(jobs_.end(), &job);
  work_.notify_all();
  take(job, lock);
  jobs_.erase(place);
  job.left.wait(lock, [&job] { return job.helpers == 0; });
  if (job.failure) std::rethrow_exception(job.failure);
}

void Workers::serve() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    Job* job = nullptr;
    work_.wait(lock, [&] { return stop_ || (job = find_job()) != nullptr; });
    if (stop_) return;
    --job->places;
    ++job->helpers;
    take(*job, lock);
    if (--job->helpers == 0) job->left.notify_all();
  }
}

Workers::Job* Workers::find_job() {
  for (Job* job : jobs_) {
    if (job->places > 0 && job->next < job->count) return job;
  }
  return nullptr;
}

// Takes pieces of the work until none are left; after a failure the rest is not begun.
void Workers::take(Job& job, std::unique_lock<std::mutex>& lock) {
  while (job.next < job.count) {
    const int64_t index = job.next++;
    lock.unlock();
    std::exception_ptr failure;
    try {
      job.body(index);
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    if (failure) {
      if (!job.failure) job.failure = failure;
      job.next = job.count;
    }
  }
}

void SharedWorkers::run(int64_t count, const std::function<void(int64_t)>& body) {
  shared_workers().run(threads_, count, body);
}

}  // namespace reuse
