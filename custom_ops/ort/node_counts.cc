#include "node_counts.h"

#include <algorithm>
#include <exception>

namespace reuse::ort {

void NodeCounts::note(const RunStatistics& run) {
  const std::lock_guard<std::mutex> lock(mutex_);
  latest_ = run;
  ++noted_;
}

void NodeCounts::withdraw() {
  const std::lock_guard<std::mutex> lock(mutex_);
  --noted_;
}

NodeStatistics NodeCounts::take() {
  const std::lock_guard<std::mutex> asking(reading_);
  Sums now{};
  try {
    now = read_();
  } catch (const std::exception&) {
    // A capture forbids it, and the next call finds all of it; or the device is lost, and with it the counts.
    return {};
  }
  NodeStatistics fresh;
  fresh.total.clusters = now.clusters - seen_.clusters;
  fresh.total.guarded = now.guarded - seen_.guarded;
  seen_ = now;

  const std::lock_guard<std::mutex> lock(mutex_);
  fresh.runs = std::max<int64_t>(0, now.runs - noted_ - replays_);
  replays_ += fresh.runs;
  if (fresh.runs > 0) {
    // A replay is a run like the one that was captured.
    fresh.total.blocks = latest_.blocks;
    fresh.total.rows = fresh.runs * latest_.rows;
    fresh.total.vectors = fresh.runs * latest_.vectors;
    fresh.total.scratch_bytes = latest_.scratch_bytes;
    fresh.total.tf32 = latest_.tf32;
  }
  return fresh;
}

}  // namespace reuse::ort
