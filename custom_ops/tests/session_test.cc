// Scope session: clusters that are kept from run to run.
#include <cmath>
#include <string>

#include "reuse/capi.h"
#include "reuse/statistics_registry.h"
#include "session_algorithm.h"
#include "session_support.h"
#include "test.h"

namespace reuse::testing {
namespace {

void expect_same_clusters(const Clusters& actual, const Clusters& expected, const std::string& what) {
  for (size_t i = 0; i < expected.ids.size(); ++i) EXPECT(actual.ids[i] == expected.ids[i], << what << ", id " << i);
  for (size_t b = 0; b < expected.blocks.size(); ++b) {
    EXPECT(actual.blocks[b].count == expected.blocks[b].count, << what << ", block " << b);
    const Buffer<float>&a = actual.blocks[b].centroids, &e = expected.blocks[b].centroids;
    for (size_t i = 0; i < e.size(); ++i) {
      EXPECT(
          a[i] == e[i] || std::fabs(a[i] - e[i]) <= 1e-6f * std::fabs(e[i]) || (std::isnan(a[i]) && std::isnan(e[i])),
          << what << ", block " << b << ", element " << i << ": " << a[i] << ", not " << e[i]);
    }
  }
}

// A layer of scope session; every third one has memory for few clusters or none, and every other one pixel-major data.
Problem session_problem(unsigned seed) {
  std::mt19937 random(seed);
  Problem p = random_problem(random, family_of(seed));
  p.cluster.scope = Scope::kSession;
  p.hash.num_hashes = 1 + static_cast<int64_t>(seed % 8);
  draw_parameters(random, p);
  if (seed % 5 == 4) p.cluster.verify = true;
  if (seed % 3 == 2) p.cluster.memory = static_cast<int64_t>(random() % 30) * cluster_bytes(p, true) + 1;
  return p;
}

TEST(session_runs_are_those_of_the_algorithm) {
  for (unsigned seed = 0; seed < 30; ++seed) {
    const Problem layer = session_problem(seed);
    std::mt19937 random(1000 + seed);
    PoisonedAllocator allocator;
    const bool pixel_major = seed % 2 == 1 && layer.blocking.layout() == Layout::kChannel;
    Problem ordered = layer;
    if (pixel_major) ordered.blocking.geometry.attributes.input_order = DataOrder::kNhwc;
    const ReusePlan plan = ordered.plan(allocator);
    ReuseState fused(layer.cluster.memory), staged(layer.cluster.memory);
    Algorithm of_fused(layer.blocking, layer.cluster.memory / cluster_bytes(layer, true));
    Algorithm of_staged(layer.blocking, layer.cluster.memory / cluster_bytes(layer, false));
    for (int run = 0; run < (seed % 12 == 0 ? 20 : 5); ++run) {
      Problem p = of_input(layer, random, run % 3 == 2);
      const std::string what = "seed " + std::to_string(seed) + ", run " + std::to_string(run);
      const std::vector<int64_t> codes = codes_of(p);
      Threads parallel(2);
      Workspace workspace(allocator, parallel);
      const Clusters of_run = of_staged.run(allocator, p, codes);
      cluster(workspace, p.blocking, p.cluster, staged, p.x.data(), codes.data(),
              [&](const Clusters& actual) { expect_same_clusters(actual, of_run, what); });
      EXPECT(workspace.statistics.known == of_staged.known, << what);
      EXPECT(staged.counts().clusters == of_staged.count, << what);

      const std::vector<float> expected = convolved(p, of_fused.run(allocator, p, codes));
      if (pixel_major) p.blocking.geometry.attributes.input_order = DataOrder::kNhwc;
      RunStatistics statistics;
      EXPECT(close(run_fused(plan, &fused, p, 1 + run % 3, &statistics), expected), << what);
      EXPECT(statistics.known == of_fused.known, << what << ": " << statistics.known << ", not " << of_fused.known);
      const ReuseState::Counts counts = fused.counts();
      EXPECT(counts.clusters == of_fused.count, << what << ": " << counts.clusters << ", not " << of_fused.count);
      EXPECT(counts.bytes == counts.clusters * cluster_bytes(p, true) && counts.bytes <= layer.cluster.memory, << what);
    }
  }
}

// A layer of family exact. Tables of its blocks do not fit the cache together.
Problem lossless_problem(unsigned seed) {
  std::mt19937 random(seed);
  Problem p = channel_problem(random, "exact", 12, 24, 1, 68, 1);
  p.cluster.scope = Scope::kSession;
  return p;
}

std::vector<float> without_history(Problem p) {
  p.cluster.scope = Scope::kBatch;
  return testing::run_fused(p, 1);
}

TEST(lossless_results_are_the_same_bits_after_any_history) {
  for (const int64_t clusters : {100000, 1000, 100, 0}) {
    Problem layer = lossless_problem(3);
    layer.cluster.memory = clusters * cluster_bytes(layer, true);
    PoisonedAllocator allocator;
    const ReusePlan plan = layer.plan(allocator);
    ReuseState state(layer.cluster.memory);
    std::mt19937 random(4);
    for (int run = 0; run < 4; ++run) {
      const Problem p = of_input(layer, random);
      RunStatistics statistics;
      EXPECT(same_bits(run_fused(plan, &state, p, 2, &statistics), without_history(p)), << clusters << ", run " << run);
      EXPECT((statistics.known > 0) == (run > 0 && clusters > 0), << clusters << ", run " << run);
    }
    EXPECT(close(run_fused(plan, &state, layer), dense(layer)));
  }
}

TEST(rows_that_are_outputs_are_kept_too) {
  for (const Layout layout : {Layout::kChannel, Layout::kPatch}) {
    ConvAttributes a;
    a.layout = layout;
    a.kernel_h = a.kernel_w = layout == Layout::kPatch ? 3 : 1;
    a.sub_vector_length = 5 * a.kernel_h * a.kernel_w;
    std::mt19937 random(8);
    Problem p;
    p.blocking = Blocking::make(ConvGeometry::make(a, 2, 5, 9, 8, 20));
    p.hash = {&find_hash_family("sign"), 4};
    p.cluster.scope = Scope::kSession;
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < 20 * p.blocking.geometry.columns(); ++i) p.w.push_back(normal(random));
    draw_parameters(random, p);
    PoisonedAllocator allocator;
    const ReusePlan plan = p.plan(allocator);
    ReuseState state(p.cluster.memory);
    Algorithm algorithm(p.blocking, 1000);
    for (int run = 0; run < 3; ++run) {
      const Problem own = of_input(p, random);
      EXPECT(close(run_fused(plan, &state, own, 2), convolved(own, algorithm.run(allocator, own, codes_of(own)))));
    }
  }
}

// A layer whose vectors all have one code, in an image of one colour. Its result tells which cluster was taken.
Problem one_cluster(float value, int64_t size = 6) {
  ConvAttributes a;
  a.sub_vector_length = 2;
  Problem p;
  p.blocking = Blocking::make(ConvGeometry::make(a, 1, 2, size, size, 1));
  p.hash = {&find_hash_family("sign"), 1};
  p.cluster.scope = Scope::kSession;
  p.x.assign(static_cast<size_t>(2 * size * size), value);
  p.w = {1.0f, 1.0f};
  p.projections = {1.0f, 1.0f};
  p.thresholds = {0.0f};
  return p;
}

TEST(of_runs_at_the_same_time_one_makes_the_cluster_that_all_later_ones_take) {
  constexpr int kThreads = 8;
  for (int round = 0; round < 10; ++round) {
    const Problem layer = one_cluster(1.0f);
    PoisonedAllocator allocator;
    const ReusePlan plan = layer.plan(allocator);
    ReuseState state(layer.cluster.memory);
    float last[kThreads] = {};
    std::atomic<bool> right{true};
    Threads(kThreads).run(kThreads, [&](int64_t t) {
      const Problem p = one_cluster(static_cast<float>(t + 1));
      for (int run = 0; run < 5; ++run) {
        const std::vector<float> y = run_fused(plan, &state, p);
        for (const float value : y) right = right && value == y[0];
        // A first run may have begun before there was a cluster; later ones know that of it or of a faster run.
        right = right && y[0] >= 2.0f && y[0] <= 2.0f * kThreads && (run < 2 || y[0] == last[t]);
        last[t] = y[0];
      }
    });
    EXPECT(right);
    for (const float value : last) EXPECT(value == last[0]);
    EXPECT(state.counts().clusters == 1);
  }
}

TEST(runs_and_resets_at_the_same_time_give_lossless_results) {
  for (const int64_t clusters : {100000, 700}) {
    Problem layer = lossless_problem(5);
    layer.cluster.memory = clusters * cluster_bytes(layer, true);
    PoisonedAllocator allocator;
    const ReusePlan plan = layer.plan(allocator);
    ReuseState state(layer.cluster.memory);
    std::atomic<bool> right{true};
    Threads(8).run(8, [&](int64_t t) {
      std::mt19937 random(t);
      for (int run = 0; run < 3; ++run) {
        const Problem p = of_input(layer, random);
        right = right && same_bits(run_fused(plan, &state, p), without_history(p));
        right = right && state.counts().bytes <= layer.cluster.memory;
        if (t == 0 && run == 1) state.reset();
      }
    });
    EXPECT(right, << clusters);
    state.reset();
    EXPECT(state.counts().clusters == 0 && state.counts().bytes == 0);
    RunStatistics statistics;
    run_fused(plan, &state, layer, 1, &statistics);
    EXPECT(statistics.known == 0 && state.counts().clusters > 0);
  }
}

TEST(a_run_that_fails_leaves_the_state_as_it_was) {
  std::mt19937 random(6);
  Problem layer = channel_problem(random, "sign", 8, 16, 12, 20, 1);
  layer.cluster.scope = Scope::kSession;
  PoisonedAllocator allocator;
  const ReusePlan plan = layer.plan(allocator);
  const Problem first = of_input(layer, random), second = of_input(layer, random);
  ReuseState all(layer.cluster.memory);
  run_fused(plan, &all, first);
  const int64_t before = all.counts().clusters;
  for (const int64_t room : {1000, 5}) {  // all of the second run's clusters, or some
    const int64_t memory_bytes = (before + room) * cluster_bytes(layer, true);
    ReuseState state(memory_bytes), other(memory_bytes);
    run_fused(plan, &state, first);
    run_fused(plan, &other, first);
    const ConvGeometry& g = second.blocking.geometry;
    std::vector<float> y = poisoned<float>(g.rows() * g.out_channels);
    int64_t failures = 0;
    for (bool done = false; !done;) {
      ShortMemory memory(failures);
      InTurn parallel;
      Workspace workspace(memory, parallel);
      try {
        reuse_conv(plan, &state, second.blocking, workspace, second.x.data(), y.data());
        done = true;
      } catch (const std::bad_alloc&) {
        ++failures;
        EXPECT(state.counts().clusters == before, << failures);
      }
    }
    EXPECT(failures > 3 && state.counts().clusters > before);
    EXPECT(same_bits(y, run_fused(plan, &other, second)));
    EXPECT(state.counts().clusters == other.counts().clusters);
  }
}

TEST(what_fails_after_clustering_adds_nothing) {
  const Problem p = one_cluster(1.0f);
  PoisonedAllocator allocator;
  Threads parallel(1);
  Workspace workspace(allocator, parallel);
  ReuseState state(p.cluster.memory);
  const std::vector<int64_t> codes = codes_of(p);
  const auto run = [&](const std::function<void(const Clusters&)>& use) {
    cluster(workspace, p.blocking, p.cluster, state, p.x.data(), codes.data(), use);
  };
  expect_throw<std::runtime_error>("no room",
                                   [&] { run([](const Clusters&) { throw std::runtime_error("no room"); }); });
  EXPECT(state.counts().clusters == 0);
  run([](const Clusters&) {});
  EXPECT(state.counts().clusters == 1 && state.counts().bytes == 4 * 2);
}

TEST(clusters_are_of_one_number_of_channels) {
  Problem p = one_cluster(1.0f);
  PoisonedAllocator allocator;
  Threads parallel(1);
  Workspace workspace(allocator, parallel);
  ReuseState state(p.cluster.memory);
  const std::vector<int64_t> codes(200);
  const std::vector<float> x(1000);
  const auto run = [&](int64_t channels) {
    const Blocking blocking = Blocking::make(ConvGeometry::make(p.blocking.geometry.attributes, 1, channels, 6, 6, 1));
    cluster(workspace, blocking, p.cluster, state, x.data(), codes.data(), [](const Clusters&) {});
  };
  run(4);
  for (const int64_t channels : {3, 6}) {
    expect_throw<std::invalid_argument>("X has other channels than in earlier runs", [&] { run(channels); });
  }
  state.reset();
  run(3);
}

TEST(the_registry_tells_of_states_and_resets_those_of_a_session) {
  StatisticsRegistry& registry = StatisticsRegistry::instance();
  const Problem p = one_cluster(1.0f);
  PoisonedAllocator allocator;
  const ReusePlan plan = p.plan(allocator);
  std::shared_ptr<ReuseState> state = std::make_shared<ReuseState>(p.cluster.memory);
  const auto other = std::make_shared<ReuseState>(p.cluster.memory);
  registry.announce("session_test", "a", "ReuseConv");
  registry.attach("session_test", "a", state);
  registry.attach("session_test_2", "a", other);
  RunStatistics statistics;
  for (int run = 0; run < 3; ++run) {
    run_fused(plan, state.get(), p, 1, &statistics);
    registry.add("session_test", "a", "ReuseConv", statistics);
  }
  run_fused(plan, other.get(), p);
  const auto has = [&](const std::string& part) {
    return registry.to_json("session_test").find(part) != std::string::npos;
  };
  EXPECT(has("\"vectors\":108,\"clusters\":1,\"guarded\":0,\"known\":72,\"last_reuse_rate\":1,"));
  EXPECT(has("\"kept_clusters\":1,\"state_bytes\":12"), << registry.to_json("session_test"));
  reuse_reset_clusters("session_test");
  EXPECT(has("\"kept_clusters\":0,\"state_bytes\":0") && has("\"known\":72"));
  EXPECT(other->counts().clusters == 1);
  run_fused(plan, state.get(), p);
  EXPECT(has("\"kept_clusters\":1"));
  state.reset();
  EXPECT(has("\"kept_clusters\":0"));
  reuse_reset_clusters("session_test");
  registry.forget("session_test");
}

}  // namespace
}  // namespace reuse::testing
