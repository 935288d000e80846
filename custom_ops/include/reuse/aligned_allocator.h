// The C++ library's memory for kernels, where ONNX Runtime's would not live long enough or is not at hand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

#include "reuse/runtime.h"

namespace reuse {

class AlignedAllocator final : public Allocator {
 public:
  void* allocate(size_t bytes) override {
    // C++ libraries round the size up to the alignment, and not all look whether that overflows.
    if (bytes > SIZE_MAX - static_cast<size_t>(kAlignment)) throw std::bad_alloc();
    return ::operator new(bytes, kAlignment);
  }
  void release(void* memory, size_t) noexcept override { ::operator delete(memory, kAlignment); }

 private:
  static constexpr std::align_val_t kAlignment{64};
};

}  // namespace reuse
