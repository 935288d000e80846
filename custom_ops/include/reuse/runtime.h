// What kernels need from whoever calls them: memory, parallel loops and a place for statistics.
// ONNX Runtime (ort/), the C API (capi/) and the tests each implement these their own way.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <new>
#include <optional>
#include <utility>

namespace reuse {

// Source of scratch memory. Implementations must be callable from several threads at once.
class Allocator {
 public:
  virtual ~Allocator() = default;
  // Returns memory aligned to 64 bytes; throws std::bad_alloc.
  virtual void* allocate(size_t bytes) = 0;
  virtual void release(void* memory, size_t bytes) noexcept = 0;
};

// Runs `body(0) ... body(count - 1)`, possibly in parallel, and returns when all are done.
// The first exception that a body throws is rethrown.
class Parallel {
 public:
  virtual ~Parallel() = default;
  virtual void run(int64_t count, const std::function<void(int64_t)>& body) = 0;
};

// Runs one after the other what already is a task.
class InTurn final : public Parallel {
 public:
  void run(int64_t count, const std::function<void(int64_t)>& body) override {
    for (int64_t i = 0; i < count; ++i) body(i);
  }
};

// A growable array of trivially copyable elements in an Allocator's memory; new elements are not initialised.
template <typename T>
class Buffer {
 public:
  explicit Buffer(Allocator& allocator, size_t size = 0) : allocator_(&allocator) { resize(size); }
  Buffer(Buffer&& other) noexcept
      : allocator_(other.allocator_),
        data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        capacity_(std::exchange(other.capacity_, 0)) {}
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  Buffer& operator=(Buffer&&) = delete;
  ~Buffer() { drop(); }

  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return size_; }
  T& operator[](size_t index) { return data_[index]; }
  const T& operator[](size_t index) const { return data_[index]; }

  void resize(size_t size) {
    if (size > capacity_) reallocate(size > 2 * capacity_ ? size : 2 * capacity_);
    size_ = size;
  }
  void swap(Buffer& other) noexcept {
    std::swap(allocator_, other.allocator_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
  }
  Allocator& allocator() const { return *allocator_; }
  void clear() {
    drop();
    data_ = nullptr;
    size_ = capacity_ = 0;
  }

 private:
  void reallocate(size_t capacity) {
    if (capacity > SIZE_MAX / sizeof(T)) throw std::bad_alloc();
    T* data = static_cast<T*>(allocator_->allocate(capacity * sizeof(T)));
    std::copy_n(data_, size_, data);
    drop();
    data_ = data;
    capacity_ = capacity;
  }
  void drop() noexcept {
    if (data_ != nullptr) allocator_->release(static_cast<void*>(data_), capacity_ * sizeof(T));
  }

  Allocator* allocator_;
  T* data_ = nullptr;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

// What one run of an operator did. Times are wall-clock nanoseconds of the calling thread.
struct RunStatistics {
  int64_t blocks = 0;
  int64_t rows = 0;      // N of the papers
  int64_t vectors = 0;   // summed over blocks
  int64_t clusters = 0;  // summed over blocks
  int64_t guarded = 0;   // vectors computed densely by the guard
  int64_t known = 0;     // vectors that took a kept cluster, of scope session
  // Of incremental nodes: vectors with another id than in the last run, output pixels whose sums were made anew in runs
  // that had kept ones, and whether the run had none.
  int64_t changed = 0, recomputed = 0, anew = 0;
  int64_t hash_ns = 0, cluster_ns = 0, gemm_ns = 0, gather_ns = 0;
  int64_t table_bytes = 0;    // tables that are kept from run to run, which sessions may share
  int64_t scratch_bytes = 0;  // largest amount of scratch memory held at once
  // Whether float32 products were allowed to be rounded to TF32; nothing where there is no such choice, or where the
  // runtime did not tell what was chosen, in which case they were not.
  std::optional<bool> tf32;
};

// What one run uses besides its operands: scratch memory, counted, threads, and a place for statistics. What is known
// of a run before it begins is laid out in one piece (reuse/arena.h); what depends on the clusters that are found
// grows.
class Workspace final : public Allocator {
 public:
  Workspace(Allocator& source, Parallel& threads) : parallel(threads), source_(source) {}

  void* allocate(size_t bytes) override {
    void* memory = source_.allocate(bytes);
    const int64_t held = held_ += static_cast<int64_t>(bytes);
    int64_t peak = peak_.load();
    while (held > peak && !peak_.compare_exchange_weak(peak, held)) {
    }
    return memory;
  }
  void release(void* memory, size_t bytes) noexcept override {
    held_ -= static_cast<int64_t>(bytes);
    source_.release(memory, bytes);
  }
  // Most bytes that were held at once: what a run adds to RunStatistics::scratch_bytes.
  int64_t peak_bytes() const { return peak_.load(); }

  Parallel& parallel;
  RunStatistics statistics;

 private:
  Allocator& source_;
  std::atomic<int64_t> held_{0}, peak_{0};
};

}  // namespace reuse
