// Memory of many megabytes that is read all over.
#pragma once

#include "reuse/runtime.h"

namespace reuse {

// Asks for large pages where the system has them to give: rows of tables lie so far from one another that looking up
// addresses costs as much as reading.
class LargeMemory final : public Allocator {
 public:
  void* allocate(size_t bytes) override;
  void release(void* memory, size_t bytes) noexcept override;
};

}  // namespace reuse
