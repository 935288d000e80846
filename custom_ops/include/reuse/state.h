// What a node keeps from run to run: clusters with scope session, sums where a static one is incremental, and a Hold's
// images (docs/operators.md, Clusters that are kept, Sums that are kept, Hold).
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

namespace reuse {

struct KeptClusters;
struct LastRun;
class RowPool;

// Made with the node's kernel, and used by its runs from several threads at once. Of clusters, which come with their
// centroids and table rows, each run works on those that there were when it began (cpu/kept_clusters.h). What the last
// run left is held by one run at a time, and others do without (cpu/last_run.h).
class ReuseState {
 public:
  // `memory` bytes are the most that all of it may count for.
  explicit ReuseState(int64_t memory);
  ~ReuseState();
  ReuseState(const ReuseState&) = delete;
  ReuseState& operator=(const ReuseState&) = delete;

  struct Counts {
    int64_t clusters = 0, bytes = 0;
  };
  Counts counts() const;
  // Forgets all of it. Runs that have begun go on with what they saw.
  void reset();

 private:
  friend class KeptRun;
  friend class LastRunHold;

  int64_t memory_;
  mutable std::mutex mutex_;  // of what follows
  // Replaced, never changed, while runs see it; so are the rows of clusters in it.
  std::shared_ptr<KeptClusters> kept_;
  std::shared_ptr<RowPool> pool_;  // of the rows of all blocks; null before the first
  std::unique_ptr<LastRun> last_;  // null while a run has it
  bool last_is_held_ = false;
  int64_t pause_ = 0, next_pause_ = 1;  // runs that go without, now and after the next one that has gained nothing
  int64_t resets_ = 0;
};

}  // namespace reuse
