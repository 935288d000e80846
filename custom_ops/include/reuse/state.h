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

// Runs that go without what has been of no use: at first `first` of them, and twice as many and one more each time that
// it was of none again.
class Pause {
 public:
  explicit Pause(int64_t first) : first_(first), next_(first) {}
  // Whether a run that begins now goes without.
  bool covers_run();
  // Returns whether runs go without from here on.
  bool found(bool was_useful);
  void reset() { *this = Pause(first_); }

 private:
  int64_t first_, runs_ = 0, next_;
};

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
  // Whether a run that has nothing to go on from is to look for windows that are equal, as it pays where many are;
  // after such a search, whether it has paid.
  bool is_to_search();
  void searched(bool has_paid);
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
  // One run that changes all over says little of the next one: a scene may have changed, or a Hold taken what lasts.
  Pause without_last_{0}, without_search_{1};
  int64_t resets_ = 0;
};

}  // namespace reuse
