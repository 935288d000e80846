// Device memory of what ReuseConvs of scope static make once.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "reuse/cuda_device.h"

namespace reuse::ort {

// Memory by the content that it is made of, so that nodes of equal content share it in all sessions of a process, for
// as long as one of them lives.
class StaticMemories {
 public:
  using Memory = std::shared_ptr<const cuda::DeviceMemory>;

  // Returns the memory of somebody else with that content, or what `make` returns.
  Memory get(const std::string& content, const std::function<Memory()>& make);

 private:
  std::mutex mutex_;
  std::map<std::string, std::weak_ptr<const cuda::DeviceMemory>> known_;
};

}  // namespace reuse::ort
