// What a node's kernels have counted on a device, and how many of its runs were replays of a CUDA graph.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>

#include "reuse/statistics_registry.h"

namespace reuse::ort {

// The device counts every run that it has done; the registry is told of those that ONNX Runtime asked for. What the
// device has counted beyond is replays. A run is noted before it is enqueued, so that the device never knows of one
// that is not noted; runs that are noted and not yet done hide as many replays until they are.
class NodeCounts final : public DeviceCounts {
 public:
  // Sums over all runs, in the order that cuda::FusedCall::statistics has.
  struct Sums {
    int64_t clusters, guarded, runs;
  };
  // Reads the device's sums; throws if it cannot be asked now.
  using Reader = std::function<Sums()>;

  explicit NodeCounts(Reader read) : read_(std::move(read)) {}

  // A run that the registry hears of by `add` is about to be enqueued.
  void note(const RunStatistics& run);
  // It was not, because of an exception.
  void withdraw();

  NodeStatistics take() override;

 private:
  Reader read_;
  std::mutex reading_;  // of what follows; held while the device is waited for
  Sums seen_{};

  std::mutex mutex_;  // of what follows; runs take it, so nobody waits holding it
  int64_t noted_ = 0, replays_ = 0;
  RunStatistics latest_;
};

}  // namespace reuse::ort
