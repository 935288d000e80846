// Counts of devices in the registry of statistics: several threads, devices that wait, devices that cannot be asked.
#include <atomic>
#include <future>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "../ort/node_counts.h"
#include "reuse/statistics_registry.h"
#include "test.h"

namespace reuse::testing {
namespace {

using ort::NodeCounts;

constexpr const char* kSession = "session";
constexpr const char* kNode = "conv";
constexpr const char* kOp = "ReuseConv";

bool shows(StatisticsRegistry& registry, const std::string& part) {
  return registry.to_json(kSession).find(part) != std::string::npos;
}

// Counts that wait in `take` until they are let go.
class WaitingCounts final : public DeviceCounts {
 public:
  NodeStatistics take() override {
    if (std::exchange(waits_, false)) {
      asked.set_value();
      go.get_future().wait();
    }
    NodeStatistics fresh;
    fresh.runs = std::exchange(runs_, 0);
    return fresh;
  }
  std::promise<void> asked, go;

 private:
  bool waits_ = true;
  int64_t runs_ = 5;
};

TEST(runs_are_reported_while_a_device_is_waited_for) {
  StatisticsRegistry registry;
  const auto counts = std::make_shared<WaitingCounts>();
  registry.announce(kSession, kNode, kOp);
  registry.attach(kSession, kNode, counts);
  std::string json;
  std::thread reader([&] { json = registry.to_json(kSession); });
  counts->asked.get_future().wait();
  // None of these may wait for the device.
  registry.add(kSession, kNode, kOp, {});
  registry.announce("other", kNode, kOp);
  EXPECT(registry.to_json("other") != "[]");
  counts->go.set_value();
  reader.join();
  EXPECT(json.find("\"runs\":6") != std::string::npos, << json);
}

TEST(a_detached_device_is_in_no_thread_s_hands) {
  StatisticsRegistry registry;
  auto counts = std::make_shared<WaitingCounts>();
  registry.announce(kSession, kNode, kOp);
  registry.attach(kSession, kNode, counts);
  std::string json;
  std::thread reader([&] { json = registry.to_json(kSession); });
  counts->asked.get_future().wait();
  std::atomic<bool> let_go{false};
  bool was_let_go = false;
  int64_t owners = 0;
  std::thread owner([&] {
    registry.detach(kSession, kNode, counts);
    was_let_go = let_go;
    owners = counts.use_count();
  });
  for (int i = 0; i < 1000; ++i) std::this_thread::yield();
  let_go = true;
  counts->go.set_value();
  reader.join();
  owner.join();
  EXPECT(was_let_go && owners == 1, << owners);
  EXPECT(shows(registry, "\"runs\":5"));
  registry.detach(kSession, kNode, counts);  // is none of the registry's any more
  EXPECT(shows(registry, "\"runs\":5"));
}

// A device as NodeCounts reads it.
struct FakeDevice {
  std::atomic<int64_t> clusters{0}, guarded{0}, runs{0};
  std::atomic<bool> refuses{false};

  NodeCounts::Reader reader() {
    return [this] {
      if (refuses) throw std::runtime_error("operation not permitted when stream is capturing");
      const int64_t done = runs;  // first: what is counted later only comes later
      return NodeCounts::Sums{clusters, guarded, done};
    };
  }
  void run(int64_t found) {
    clusters += found;
    ++guarded;
    ++runs;
  }
};

RunStatistics run_of(int64_t rows) {
  RunStatistics run;
  run.blocks = 2;
  run.rows = rows;
  run.vectors = 3 * rows;
  run.scratch_bytes = 64;
  run.tf32 = true;
  return run;
}

TEST(replays_are_the_runs_that_nobody_noted) {
  FakeDevice device;
  NodeCounts counts(device.reader());
  counts.note(run_of(10));
  EXPECT(counts.take().runs == 0, << "enqueued and not done");
  device.run(4);
  NodeStatistics fresh = counts.take();
  EXPECT(fresh.runs == 0 && fresh.total.clusters == 4 && fresh.total.guarded == 1 && fresh.total.rows == 0);
  device.run(5);
  device.run(5);
  fresh = counts.take();
  EXPECT(fresh.runs == 2 && fresh.total.clusters == 10 && fresh.total.guarded == 2);
  EXPECT(fresh.total.rows == 20 && fresh.total.vectors == 60);
  EXPECT(fresh.total.blocks == 2 && fresh.total.scratch_bytes == 64 && fresh.total.tf32 == true);
  // While a noted run is not done it hides a replay, which is found later.
  counts.note(run_of(10));
  device.run(1);
  EXPECT(counts.take().runs == 0);
  device.run(1);
  EXPECT(counts.take().runs == 1);
  // A run that failed hides nothing.
  counts.note(run_of(10));
  counts.withdraw();
  device.run(1);
  EXPECT(counts.take().runs == 1);
}

TEST(counts_of_a_device_that_cannot_be_asked_come_later) {
  FakeDevice device;
  const auto counts = std::make_shared<NodeCounts>(device.reader());
  StatisticsRegistry registry;
  registry.announce(kSession, kNode, kOp);
  registry.attach(kSession, kNode, counts);
  counts->note(run_of(10));
  registry.add(kSession, kNode, kOp, run_of(10));
  device.run(4);
  EXPECT(shows(registry, "\"runs\":1,") && shows(registry, "\"clusters\":4,"));
  device.refuses = true;
  device.run(6);
  EXPECT(shows(registry, "\"runs\":1,") && shows(registry, "\"clusters\":4,"), << "the last known");
  device.refuses = false;
  EXPECT(shows(registry, "\"runs\":2,") && shows(registry, "\"clusters\":10,"));
  EXPECT(shows(registry, "\"runs\":2,") && shows(registry, "\"clusters\":10,"), << "not twice");
  registry.detach(kSession, kNode, counts);
}

TEST(replays_after_a_reset_still_tell_of_what_kind_they_are) {
  FakeDevice device;
  const auto counts = std::make_shared<NodeCounts>(device.reader());
  StatisticsRegistry registry;
  registry.attach(kSession, kNode, counts);
  counts->note(run_of(10));
  registry.add(kSession, kNode, kOp, run_of(10));
  device.run(4);
  registry.reset(kSession);
  EXPECT(shows(registry, "\"tf32\":true,\"runs\":0,\"blocks\":0,"), << registry.to_json(kSession));
  device.run(4);
  EXPECT(shows(registry, "\"tf32\":true,\"runs\":1,\"blocks\":2,\"rows\":10,"), << registry.to_json(kSession));
  registry.detach(kSession, kNode, counts);
}

TEST(no_count_is_lost_or_doubled_among_many_threads) {
  constexpr int kSessions = 4, kRuns = 300, kReplays = 200, kReaders = 3;
  StatisticsRegistry registry;
  FakeDevice devices[kSessions];
  std::shared_ptr<NodeCounts> counts[kSessions];
  const auto node_of = [](int i) { return kNode + std::to_string(i); };
  for (int i = 0; i < kSessions; ++i) {
    counts[i] = std::make_shared<NodeCounts>(devices[i].reader());
    registry.announce(kSession, node_of(i), kOp);
    registry.attach(kSession, node_of(i), counts[i]);
    counts[i]->note(run_of(1));  // a graph is captured before it is replayed
  }
  std::atomic<bool> done{false};
  std::vector<std::thread> runners, readers;
  for (int i = 0; i < kSessions; ++i) {
    runners.emplace_back([&, i] {
      for (int run = 0; run < kRuns; ++run) {
        if (run > 0) counts[i]->note(run_of(1));
        devices[i].run(2);
        registry.add(kSession, node_of(i), kOp, run_of(1));
        if (run == kRuns / 2) devices[i].refuses = true;
      }
      devices[i].refuses = false;
    });
    runners.emplace_back([&, i] {
      for (int replay = 0; replay < kReplays; ++replay) devices[i].run(2);
    });
  }
  for (int i = 0; i < kReaders; ++i) {
    readers.emplace_back([&] {
      while (!done) registry.to_json(kSession);
    });
  }
  for (std::thread& thread : runners) thread.join();
  // The readers go on while the sessions end, one after the other.
  int64_t still_held = 0;
  for (int i = 0; i < kSessions; ++i) {
    registry.detach(kSession, node_of(i), counts[i]);
    still_held += counts[i].use_count() - 1;
  }
  done = true;
  for (std::thread& thread : readers) thread.join();
  EXPECT(still_held == 0);
  const std::string json = registry.to_json(kSession), total = std::to_string(kRuns + kReplays);
  const std::string expected = "\"tf32\":true,\"runs\":" + total + ",\"blocks\":2,\"rows\":" + total +
                               ",\"vectors\":" + std::to_string(3 * (kRuns + kReplays)) +
                               ",\"clusters\":" + std::to_string(2 * (kRuns + kReplays)) + ",\"guarded\":" + total +
                               ",";
  size_t found = 0, place = 0;
  while ((place = json.find(expected, place)) != std::string::npos) ++found, ++place;
  EXPECT(found == kSessions, << json);
}

}  // namespace
}  // namespace reuse::testing
