// Statistics of all live and past kernels of the process, by session tag and node, for readers outside ONNX Runtime.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "reuse/runtime.h"

namespace reuse {

// Sums over the runs of one node.
struct NodeStatistics {
  std::string op;
  int64_t runs = 0;
  RunStatistics total;  // `blocks` and `scratch_bytes` are the largest of any run, the rest are sums
};

class StatisticsRegistry {
 public:
  static StatisticsRegistry& instance();

  // Makes the node known, so that it is reported before its first run.
  void announce(const std::string& session, const std::string& node, const std::string& op);
  void add(const std::string& session, const std::string& node, const std::string& op, const RunStatistics& run);
  // Sets all sums of a session to zero.
  void reset(const std::string& session);
  // Forgets a session's nodes.
  void forget(const std::string& session);
  // Returns a JSON array with an object per node of the session (docs/operators.md, Statistics).
  std::string to_json(const std::string& session) const;

 private:
  using Key = std::pair<std::string, std::string>;  // session tag, node
  mutable std::mutex mutex_;
  std::map<Key, NodeStatistics> nodes_;
};

}  // namespace reuse
