// Statistics of all live and past kernels of the process, by session tag and node, for readers outside ONNX Runtime.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "reuse/runtime.h"
#include "reuse/state.h"

namespace reuse {

// Sums over the runs of one node.
struct NodeStatistics {
  std::string op;
  int64_t runs = 0;
  double last_reuse_rate = 0.0;  // R of the last run
  RunStatistics total;  // `blocks`, `scratch_bytes` and `table_bytes` are the largest of any run, `tf32` is the last
                        // known, the rest sums
};

// Counts that a kernel's runs leave on a device, where nobody waits for them.
class DeviceCounts {
 public:
  virtual ~DeviceCounts() = default;
  // Returns what is new since the last call, and the runs of it that were not added by `add`: replays of a graph. It
  // may wait for the device. Where the device cannot be asked now, nothing is new, and it comes with a later call.
  virtual NodeStatistics take() = 0;
};

class StatisticsRegistry {
 public:
  static StatisticsRegistry& instance();

  // Makes the node known, so that it is reported before its first run.
  void announce(const std::string& session, const std::string& node, const std::string& op);
  void add(const std::string& session, const std::string& node, const std::string& op, const RunStatistics& run);
  // Asks `counts` for what is new whenever a node's statistics are wanted, until it is detached.
  void attach(const std::string& session, const std::string& node, const std::shared_ptr<DeviceCounts>& counts);
  // Asks a last time. Afterwards the registry has no hold on `counts`, in no thread.
  void detach(const std::string& session, const std::string& node, const std::shared_ptr<DeviceCounts>& counts);
  // Tells of the clusters that the node keeps, and makes it forget them with its session's, as long as the state lives.
  void attach(const std::string& session, const std::string& node, const std::shared_ptr<ReuseState>& state);
  // Forgets all clusters that a session's nodes keep.
  void reset_clusters(const std::string& session);
  // Sets all sums of a session to zero. What a device had counted but could not be asked for comes later nevertheless.
  void reset(const std::string& session);
  // Forgets a session's nodes.
  void forget(const std::string& session);
  // Returns a JSON array with an object per node of the session (docs/operators.md, Statistics).
  std::string to_json(const std::string& session);

 private:
  using Key = std::pair<std::string, std::string>;  // session tag, node

  // Counts that are asked. Whoever waits for a device holds the source's mutex and not the registry's, so that running
  // sessions go on reporting; it is held until what was taken is added, too, so that `reset` finds all of it. A
  // source's mutex is locked before the registry's, never after.
  struct Source {
    explicit Source(std::shared_ptr<DeviceCounts> own) : counts(std::move(own)) {}
    std::mutex mutex;
    std::shared_ptr<DeviceCounts> counts;  // null once it is detached
  };

  ReuseState::Counts kept_by(const Key& key);
  void collect(const Key& key, Source& source);
  void collect(const std::string& session);

  std::mutex mutex_;
  std::map<Key, NodeStatistics> nodes_;
  std::map<Key, std::vector<std::shared_ptr<Source>>> sources_;
  std::multimap<Key, std::weak_ptr<ReuseState>> states_;
};

}  // namespace reuse
