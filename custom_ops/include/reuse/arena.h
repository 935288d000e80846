// One piece of memory for several arrays, sized by the code that lays it out.
#pragma once

#include <cstddef>
#include <cstdint>

#include "reuse/runtime.h"

namespace reuse {

// Hands out parts of one piece of memory, or, given none, only finds out how large it must be.
class Arena {
 public:
  explicit Arena(void* memory) : memory_(static_cast<char*>(memory)) {}

  template <typename T>
  T* take(int64_t count) {
    constexpr size_t kAlignment = 256;
    T* part = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + used_);
    used_ += (static_cast<size_t>(count) * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return part;
  }
  size_t used() const { return used_; }
  bool is_measuring() const { return memory_ == nullptr; }

 private:
  char* memory_;
  size_t used_ = 0;
};

// Arrays in one piece of an allocator's memory. `Arrays(arena, sizes...)` takes them from an arena; it is called twice,
// once to count and once to place.
template <typename Arrays>
class Placed {
 public:
  template <typename... Sizes>
  explicit Placed(Allocator& allocator, const Sizes&... sizes) : Placed(allocator, count(sizes...), sizes...) {}
  Placed(const Placed&) = delete;
  Placed& operator=(const Placed&) = delete;
  ~Placed() { allocator_.release(memory_, bytes_); }

  const Arrays& operator*() const { return arrays_; }
  const Arrays* operator->() const { return &arrays_; }

 private:
  struct Bytes {
    size_t count;
  };
  template <typename... Sizes>
  static Bytes count(const Sizes&... sizes) {
    Arena arena(nullptr);
    static_cast<void>(Arrays(arena, sizes...));
    return {arena.used()};
  }
  template <typename... Sizes>
  Placed(Allocator& allocator, Bytes bytes, const Sizes&... sizes)
      : allocator_(allocator),
        bytes_(bytes.count),
        memory_(allocator.allocate(bytes_)),
        arrays_(place(memory_, sizes...)) {}
  template <typename... Sizes>
  static Arrays place(void* memory, const Sizes&... sizes) {
    Arena arena(memory);
    return Arrays(arena, sizes...);
  }

  Allocator& allocator_;
  size_t bytes_;
  void* memory_;
  Arrays arrays_;
};

}  // namespace reuse
