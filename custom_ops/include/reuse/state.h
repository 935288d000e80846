// What a node of scope session keeps from run to run (docs/operators.md, Clusters that are kept).
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

namespace reuse {

struct KeptClusters;
class RowPool;

// Clusters that runs have made, with their centroids and table rows. Made with the node's kernel, and used by its runs
// from several threads at once: each works on the clusters that there were when it began (cpu/kept_clusters.h).
class ReuseState {
 public:
  // `memory` bytes are the most that the clusters may count for.
  explicit ReuseState(int64_t memory);
  ~ReuseState();
  ReuseState(const ReuseState&) = delete;
  ReuseState& operator=(const ReuseState&) = delete;

  struct Counts {
    int64_t clusters = 0, bytes = 0;
  };
  Counts counts() const;
  // Forgets all clusters. Runs that have begun go on with those that they saw.
  void reset();

 private:
  friend class KeptRun;

  int64_t memory_;
  mutable std::mutex mutex_;  // of what follows
  // Replaced, never changed, while runs see it; so are the rows of clusters in it.
  std::shared_ptr<KeptClusters> kept_;
  std::shared_ptr<RowPool> pool_;  // of the rows of all blocks; null before the first
  int64_t resets_ = 0;
};

}  // namespace reuse
