#include "static_memory.h"

#include <iterator>

namespace reuse::ort {

StaticMemories::Memory StaticMemories::get(const std::string& content, const std::function<Memory()>& make) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (auto own = known_.begin(); own != known_.end();)
    own = own->second.expired() ? known_.erase(own) : std::next(own);
  if (const auto found = known_.find(content); found != known_.end()) {
    if (Memory memory = found->second.lock()) return memory;
  }
  Memory memory = make();
  known_[content] = memory;
  return memory;
}

}  // namespace reuse::ort
