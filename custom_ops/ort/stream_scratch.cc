#include "stream_scratch.h"

#include <algorithm>

namespace reuse::ort {

StreamScratch::~StreamScratch() {
  for (auto& [key, stream] : streams_) {
    for (const Buffer& buffer : stream.buffers) buffer.allocator->release(buffer.memory, buffer.bytes);
  }
}

StreamScratch::Stream& StreamScratch::stream_of(int device, void* stream) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return streams_[{device, stream}];
}

StreamScratch::Lease StreamScratch::lease(int device, void* stream, const std::shared_ptr<Allocator>& allocator,
                                          size_t bytes) {
  Stream& own = stream_of(device, stream);
  std::unique_lock<std::mutex> lock(own.mutex);
  if (own.buffers.empty() || own.buffers.back().bytes < bytes) {
    const size_t grown = own.buffers.empty() ? bytes : std::max(bytes, 2 * own.buffers.back().bytes);
    own.buffers.reserve(own.buffers.size() + 1);  // before there is memory that an exception would lose
    own.buffers.push_back({allocator, allocator->allocate(grown), grown});
  }
  return {std::move(lock), own.buffers.back().memory};
}

}  // namespace reuse::ort
