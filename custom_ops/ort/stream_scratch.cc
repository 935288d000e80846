#include "stream_scratch.h"

#include <algorithm>
#include <utility>

namespace reuse::ort {

StreamScratch::~StreamScratch() {
  for (auto& [stream, all] : buffers_) {
    for (const Buffer& buffer : all) ScratchAllocator(*buffer.allocator).release(buffer.memory, buffer.bytes);
  }
}

StreamScratch::Lease StreamScratch::lease(int device, void* stream, const std::shared_ptr<KernelAllocator>& allocator,
                                          size_t bytes) {
  std::unique_lock<std::mutex> lock(mutex_);
  std::vector<Buffer>& own = buffers_[{device, stream}];
  if (own.empty() || own.back().bytes < bytes) {
    const size_t grown = own.empty() ? bytes : std::max(bytes, 2 * own.back().bytes);
    own.push_back({allocator, ScratchAllocator(*allocator).allocate(grown), grown});
  }
  return {std::move(lock), own.back().memory};
}

}  // namespace reuse::ort
