#include "large_memory.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <new>

namespace reuse {
namespace {

constexpr size_t kLargePage = size_t{2} << 20, kLine = 64;

std::align_val_t alignment_of(size_t bytes) { return std::align_val_t{bytes < kLargePage ? kLine : kLargePage}; }

}  // namespace

void* LargeMemory::allocate(size_t bytes) {
  if (bytes > SIZE_MAX - kLargePage) throw std::bad_alloc();
  void* memory = ::operator new(bytes, alignment_of(bytes));
#if defined(__linux__)
  if (bytes >= kLargePage) madvise(memory, bytes / kLargePage * kLargePage, MADV_HUGEPAGE);  // or not, if it cannot be
#endif
  return memory;
}

void LargeMemory::release(void* memory, size_t bytes) noexcept { ::operator delete(memory, alignment_of(bytes)); }

}  // namespace reuse
