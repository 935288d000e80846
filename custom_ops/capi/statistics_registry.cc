#include "reuse/statistics_registry.h"

#include <algorithm>
#include <cstdio>
#include <sstream>
#include <utility>

#include "reuse/text.h"

namespace reuse {
namespace {

// As a string of JSON, which is UTF-8 whatever the bytes of a name are.
std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : utf8(text)) {
    if (c == '"' || c == '\\') {
      result += '\\';
      result += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof(escape), "\\u%04x", static_cast<unsigned>(static_cast<unsigned char>(c)));
      result += escape;
    } else {
      result += c;
    }
  }
  return result + '"';
}

void write_node(std::ostream& out, const std::string& node, const NodeStatistics& statistics,
                const ReuseState::Counts& kept) {
  const RunStatistics& t = statistics.total;
  const auto seconds = [](int64_t ns) { return static_cast<double>(ns) * 1e-9; };
  out << "{\"node\":" << quoted(node) << ",\"op\":" << quoted(statistics.op)
      << ",\"tf32\":" << (t.tf32 ? *t.tf32 ? "true" : "false" : "null") << ",\"runs\":" << statistics.runs
      << ",\"blocks\":" << t.blocks << ",\"rows\":" << t.rows << ",\"vectors\":" << t.vectors
      << ",\"clusters\":" << t.clusters << ",\"guarded\":" << t.guarded << ",\"known\":" << t.known
      << ",\"last_reuse_rate\":" << statistics.last_reuse_rate << ",\"kept_clusters\":" << kept.clusters
      << ",\"state_bytes\":" << kept.bytes << ",\"table_bytes\":" << t.table_bytes << ",\"changed\":" << t.changed
      << ",\"recomputed\":" << t.recomputed << ",\"anew\":" << t.anew << ",\"seconds\":{\"hash\":" << seconds(t.hash_ns)
      << ",\"cluster\":" << seconds(t.cluster_ns) << ",\"gemm\":" << seconds(t.gemm_ns)
      << ",\"gather\":" << seconds(t.gather_ns) << "},\"scratch_bytes\":" << t.scratch_bytes << "}";
}

void add_to(RunStatistics& t, const RunStatistics& run) {
  t.blocks = std::max(t.blocks, run.blocks);
  t.rows += run.rows;
  t.vectors += run.vectors;
  t.clusters += run.clusters;
  t.guarded += run.guarded;
  t.known += run.known;
  t.changed += run.changed;
  t.recomputed += run.recomputed;
  t.anew += run.anew;
  t.hash_ns += run.hash_ns;
  t.cluster_ns += run.cluster_ns;
  t.gemm_ns += run.gemm_ns;
  t.gather_ns += run.gather_ns;
  t.scratch_bytes = std::max(t.scratch_bytes, run.scratch_bytes);
  t.table_bytes = std::max(t.table_bytes, run.table_bytes);
  if (run.tf32) t.tf32 = run.tf32;
}

}  // namespace

StatisticsRegistry& StatisticsRegistry::instance() {
  // Never destroyed: kernels of a session that outlives static destruction may still report.
  static StatisticsRegistry* const registry = new StatisticsRegistry;
  return *registry;
}

void StatisticsRegistry::announce(const std::string& session, const std::string& node, const std::string& op) {
  const std::lock_guard<std::mutex> lock(mutex_);
  nodes_[{session, node}].op = op;
}

void StatisticsRegistry::add(const std::string& session, const std::string& node, const std::string& op,
                             const RunStatistics& run) {
  const std::lock_guard<std::mutex> lock(mutex_);
  NodeStatistics& statistics = nodes_[{session, node}];
  statistics.op = op;
  ++statistics.runs;
  statistics.last_reuse_rate =
      run.vectors == 0 ? 0.0 : static_cast<double>(run.known) / static_cast<double>(run.vectors);
  add_to(statistics.total, run);
}

void StatisticsRegistry::attach(const std::string& session, const std::string& node,
                                const std::shared_ptr<DeviceCounts>& counts) {
  auto source = std::make_shared<Source>(counts);
  const std::lock_guard<std::mutex> lock(mutex_);
  sources_[{session, node}].push_back(std::move(source));
}

void StatisticsRegistry::detach(const std::string& session, const std::string& node,
                                const std::shared_ptr<DeviceCounts>& counts) {
  const Key key{session, node};
  std::shared_ptr<Source> own;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = sources_.find(key);
    if (found == sources_.end()) return;
    auto& all = found->second;
    const auto is_own = [&](const std::shared_ptr<Source>& source) { return source->counts == counts; };
    const auto place = std::find_if(all.begin(), all.end(), is_own);
    if (place == all.end()) return;
    own = *place;
    all.erase(place);
    if (all.empty()) sources_.erase(found);
  }
  collect(key, *own);
  // Another thread may have copied the list before: it is waited for if it asks just now, and finds nothing if it
  // comes.
  const std::lock_guard<std::mutex> lock(own->mutex);
  own->counts.reset();
}

void StatisticsRegistry::collect(const Key& key, Source& source) {
  const std::lock_guard<std::mutex> asking(source.mutex);
  if (source.counts == nullptr) return;
  const NodeStatistics fresh = source.counts->take();
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = nodes_.find(key);
  if (found == nodes_.end()) return;
  found->second.runs += fresh.runs;
  add_to(found->second.total, fresh.total);
}

void StatisticsRegistry::collect(const std::string& session) {
  std::vector<std::pair<Key, std::shared_ptr<Source>>> wanted;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [key, all] : sources_) {
      if (key.first != session) continue;
      for (const auto& source : all) wanted.emplace_back(key, source);
    }
  }
  for (const auto& [key, source] : wanted) collect(key, *source);
}

void StatisticsRegistry::attach(const std::string& session, const std::string& node,
                                const std::shared_ptr<ReuseState>& state) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (auto it = states_.begin(); it != states_.end();) it = it->second.expired() ? states_.erase(it) : std::next(it);
  states_.emplace(Key{session, node}, state);
}

void StatisticsRegistry::reset_clusters(const std::string& session) {
  std::vector<std::shared_ptr<ReuseState>> wanted;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [key, state] : states_) {
      if (key.first == session) wanted.push_back(state.lock());
    }
  }
  for (const auto& state : wanted) {
    if (state != nullptr) state->reset();
  }
}

// Of all states that live, as a name may be that of several nodes. Under the registry's mutex.
ReuseState::Counts StatisticsRegistry::kept_by(const Key& key) {
  ReuseState::Counts sum;
  const auto [begin, end] = states_.equal_range(key);
  for (auto it = begin; it != end; ++it) {
    const std::shared_ptr<ReuseState> state = it->second.lock();
    if (state == nullptr) continue;
    const ReuseState::Counts own = state->counts();
    sum.clusters += own.clusters;
    sum.bytes += own.bytes;
  }
  return sum;
}

void StatisticsRegistry::reset(const std::string& session) {
  collect(session);
  const std::lock_guard<std::mutex> lock(mutex_);
  for (auto& [key, statistics] : nodes_) {
    if (key.first != session) continue;
    NodeStatistics zero;
    zero.op = statistics.op;
    zero.total.tf32 = statistics.total.tf32;  // like the operator, no sum
    statistics = std::move(zero);
  }
}

void StatisticsRegistry::forget(const std::string& session) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (auto it = nodes_.begin(); it != nodes_.end();)
    it = it->first.first == session ? nodes_.erase(it) : std::next(it);
}

std::string StatisticsRegistry::to_json(const std::string& session) {
  collect(session);
  const std::lock_guard<std::mutex> lock(mutex_);
  std::ostringstream out;
  out.imbue(std::locale::classic());
  out.precision(9);
  out << '[';
  const char* separator = "";
  for (const auto& [key, statistics] : nodes_) {
    if (key.first != session) continue;
    out << separator;
    write_node(out, key.second, statistics, kept_by(key));
    separator = ",";
  }
  out << ']';
  return out.str();
}

}  // namespace reuse
