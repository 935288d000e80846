// Scope session: clusters that are kept from run to run.
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <string>

#include "../cpu/tile.h"
#include "reuse/capi.h"
#include "reuse/statistics_registry.h"
#include "support.h"
#include "test.h"

namespace reuse::testing {
namespace {

// Algorithm 1 of the training paper with CR = 1, as docs/operators.md tells it.
class Algorithm {
 public:
  Algorithm(const Blocking& blocking, int64_t limit)
      : places_(static_cast<size_t>(blocking.num_blocks())), kept_(places_.size()), limit_(limit) {}

  // The clusters of a run of Cluster, which the next run knows.
  Clusters run(Allocator& allocator, const Problem& p, const std::vector<int64_t>& codes) {
    Clusters result(allocator, p.blocking);
    known = 0;
    for (size_t b = 0; b < places_.size(); ++b) {
      BlockClusters& own = result.blocks.emplace_back(allocator);
      const std::vector<std::vector<float>> centroids = run_block(p, b, codes, result.ids.data());
      own.count = static_cast<int64_t>(centroids.size());
      for (const auto& centroid : centroids) {
        for (const float value : centroid) {
          own.centroids.resize(own.centroids.size() + 1);
          own.centroids[own.centroids.size() - 1] = value;
        }
      }
    }
    return result;
  }

  int64_t count = 0;
  int64_t known = 0;  // vectors of the last run

 private:
  using Vector = std::vector<float>;

  std::vector<Vector> run_block(const Problem& p, size_t b, const std::vector<int64_t>& codes, int32_t* all_ids) {
    const int64_t length = p.blocking.sub_vector_length(), vectors = p.blocking.vectors;
    std::vector<Vector> centroids = kept_[b];
    std::map<int64_t, size_t> fresh;
    std::vector<std::vector<Vector>> members(centroids.size());
    const auto limit = static_cast<size_t>(
        std::max(1.0, std::ceil(static_cast<double>(p.cluster.capacity) * static_cast<double>(vectors))));
    for (int64_t v = 0; v < vectors; ++v) {
      const int64_t code = codes[b * static_cast<size_t>(vectors) + static_cast<size_t>(v)];
      Vector own(static_cast<size_t>(length));
      Vector tile(static_cast<size_t>(length * kTileVectors));
      load_tile(p.blocking, p.x.data(), static_cast<int64_t>(b), v, 1, tile.data());
      for (int64_t l = 0; l < p.blocking.block_length(static_cast<int64_t>(b)); ++l) {
        own[static_cast<size_t>(l)] = tile[static_cast<size_t>(l * kTileVectors)];
      }
      const bool sharable =
          p.cluster.verify || std::all_of(own.begin(), own.end(), [](float value) { return std::isfinite(value); });
      const auto same = [&](const Vector& other) {
        return !p.cluster.verify || std::memcmp(other.data(), own.data(), own.size() * sizeof(float)) == 0;
      };
      const auto place = places_[b].find(code);
      const auto found = fresh.find(code);
      size_t id = members.size();
      if (sharable && place != places_[b].end() && same(kept_[b][place->second])) {
        id = place->second;
        ++known;
      } else if (sharable && place == places_[b].end() && found != fresh.end() && same(members[found->second][0])) {
        id = found->second;
      } else if (sharable && place == places_[b].end() && found == fresh.end() && fresh.size() < limit) {
        fresh[code] = id;
      }
      if (id == members.size()) members.emplace_back();
      members[id].push_back(own);
      all_ids[b * static_cast<size_t>(vectors) + static_cast<size_t>(v)] = static_cast<int32_t>(id);
    }
    for (size_t c = centroids.size(); c < members.size(); ++c) centroids.push_back(centroid_of(p, members[c]));
    std::map<size_t, int64_t> joining;
    for (const auto& [code, id] : fresh) joining[id] = code;
    for (const auto& [id, code] : joining) {
      if (count >= limit_) break;
      places_[b][code] = kept_[b].size();
      kept_[b].push_back(centroids[id]);
      ++count;
    }
    return centroids;
  }

  static Vector centroid_of(const Problem& p, const std::vector<Vector>& members) {
    if (p.cluster.verify) return members[0];
    const double n = static_cast<double>(members.size());
    std::vector<double> sums(members[0].size());
    double norms = 0.0;
    for (const Vector& member : members) {
      double squares = 0.0;
      for (const float value : member) squares += static_cast<double>(value) * value;
      const double norm = p.cluster.metric == Metric::kAngular && std::isfinite(squares) ? std::sqrt(squares) : 1.0;
      norms += norm;
      for (size_t l = 0; l < sums.size(); ++l) sums[l] += member[l] / (norm > 0.0 ? norm : 1.0);
    }
    Vector result(sums.size());
    for (size_t l = 0; l < sums.size(); ++l) result[l] = static_cast<float>(sums[l] / n * (norms / n));
    return result;
  }

  std::vector<std::map<int64_t, size_t>> places_;
  std::vector<std::vector<Vector>> kept_;
  int64_t limit_;
};

// Another input of the same layer, of another size; many of its pixels are the same in all inputs.
void draw_input(std::mt19937& random, Problem& p, bool spoil = false) {
  const ConvGeometry& old = p.blocking.geometry;
  const int64_t batch = 1 + static_cast<int64_t>(random() % 3), grown = static_cast<int64_t>(random() % 3);
  p.blocking = Blocking::make(ConvGeometry::make(old.attributes, batch, old.in_channels, old.in_h + grown,
                                                 old.in_w + 2 - grown, old.out_channels));
  const ConvGeometry& g = p.blocking.geometry;
  std::normal_distribution<float> normal;
  std::mt19937 always(7);
  std::vector<float> palette(static_cast<size_t>(8 * g.in_channels));
  for (float& value : palette) value = normal(always);
  p.x.resize(static_cast<size_t>(g.batch * g.in_channels * g.in_pixels()));
  for (int64_t n = 0; n < g.batch; ++n) {
    for (int64_t pixel = 0; pixel < g.in_pixels(); ++pixel) {
      const int64_t pick = static_cast<int64_t>(random() % 10);
      for (int64_t c = 0; c < g.in_channels; ++c) {
        float& value = p.x[static_cast<size_t>((n * g.in_channels + c) * g.in_pixels() + pixel)];
        value = pick < 8 ? palette[static_cast<size_t>(pick * g.in_channels + c)] : normal(random);
      }
    }
  }
  if (spoil) {
    p.x[random() % p.x.size()] = std::numeric_limits<float>::quiet_NaN();
    p.x[random() % p.x.size()] = -std::numeric_limits<float>::infinity();
  }
}

// Growing inputs must not be what grows from input to input.
Problem of_input(const Problem& layer, std::mt19937& random, bool spoil = false) {
  Problem p = layer;
  draw_input(random, p, spoil);
  return p;
}

int64_t cluster_bytes(const Problem& p, bool fused) {
  return 4 * (p.blocking.sub_vector_length() + (fused ? p.blocking.table_width() : 0));
}

// One run of ReuseConv, from and to NCHW.
std::vector<float> run_fused(const ReusePlan& plan, ReuseState& state, const Problem& p, int64_t threads = 1,
                             RunStatistics* statistics = nullptr) {
  const ConvGeometry& g = p.blocking.geometry;
  PoisonedAllocator allocator;
  Threads parallel(threads);
  std::vector<float> y = poisoned<float>(g.rows() * g.out_channels);
  const bool pixel_major = g.attributes.input_order == DataOrder::kNhwc;
  const std::vector<float> x = pixel_major ? reordered(p.x, g.batch, g.in_channels, g.in_pixels()) : p.x;
  {
    Workspace workspace(allocator, parallel);
    reuse_conv(plan, &state, plan.blocking(g.batch, g.in_h, g.in_w), workspace, x.data(), y.data());
    if (statistics != nullptr) *statistics = workspace.statistics;
  }
  EXPECT(allocator.held() == 0);
  if (g.attributes.output_order == DataOrder::kNhwc) return reordered(y, g.batch, g.out_pixels(), g.out_channels);
  return y;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

bool close(const std::vector<float>& actual, const std::vector<float>& expected) {
  double scale = 1.0;
  for (const float value : expected) scale = std::isfinite(value) ? std::max<double>(scale, std::fabs(value)) : scale;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (std::isfinite(expected[i]) != std::isfinite(actual[i])) return false;
    if (std::isfinite(expected[i]) && std::fabs(actual[i] - expected[i]) > 1e-5 * scale) return false;
  }
  return actual.size() == expected.size();
}

// Cluster, CentroidGemm and Gather of the algorithm's clusters.
std::vector<float> convolved(const Problem& p, const Clusters& clusters) {
  const ConvGeometry& g = p.blocking.geometry;
  PoisonedAllocator allocator;
  Threads parallel(1);
  Workspace workspace(allocator, parallel);
  int64_t capacity = 1;
  for (const BlockClusters& block : clusters.blocks) capacity = std::max(capacity, block.count);
  const int64_t blocks = p.blocking.num_blocks(), length = p.blocking.sub_vector_length();
  std::vector<float> centroids(static_cast<size_t>(blocks * capacity * length));
  std::vector<int32_t> counts;
  for (int64_t b = 0; b < blocks; ++b) {
    const BlockClusters& own = clusters.blocks[static_cast<size_t>(b)];
    std::copy_n(own.centroids.data(), own.count * length, centroids.data() + b * capacity * length);
    counts.push_back(static_cast<int32_t>(own.count));
  }
  std::vector<float> table(static_cast<size_t>(blocks * capacity * p.blocking.table_width()));
  centroid_gemm(workspace, p.blocking, p.w.data(), centroids.data(), counts.data(), capacity, table.data());
  std::vector<float> y(static_cast<size_t>(g.rows() * g.out_channels));
  gather(workspace, p.blocking, p.gather, table.data(), capacity, clusters.ids.data(),
         p.bias.empty() ? nullptr : p.bias.data(), y.data());
  return y;
}

std::vector<int64_t> codes_of(const Problem& p) {
  PoisonedAllocator allocator;
  Threads parallel(1);
  Workspace workspace(allocator, parallel);
  std::vector<int64_t> codes = poisoned<int64_t>(p.blocking.num_blocks() * p.blocking.vectors);
  hash(workspace, p.blocking, *p.encoder(allocator), p.x.data(), codes.data());
  return codes;
}

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
  for (unsigned seed = 0; seed < 36; ++seed) {
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
      EXPECT(close(run_fused(plan, fused, p, 1 + run % 3, &statistics), expected), << what);
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
  Problem p = channel_problem(random, "exact", 12, 48, 1, 72, 1);
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
      EXPECT(same_bits(run_fused(plan, state, p, 2, &statistics), without_history(p)), << clusters << ", run " << run);
      EXPECT((statistics.known > 0) == (run > 0 && clusters > 0), << clusters << ", run " << run);
    }
    EXPECT(close(run_fused(plan, state, layer), dense(layer)));
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
      EXPECT(close(run_fused(plan, state, own, 2), convolved(own, algorithm.run(allocator, own, codes_of(own)))));
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
  for (int round = 0; round < 20; ++round) {
    const Problem layer = one_cluster(1.0f);
    PoisonedAllocator allocator;
    const ReusePlan plan = layer.plan(allocator);
    ReuseState state(layer.cluster.memory);
    float last[kThreads] = {};
    std::atomic<bool> right{true};
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        const Problem p = one_cluster(static_cast<float>(t + 1));
        for (int run = 0; run < 5; ++run) {
          const std::vector<float> y = run_fused(plan, state, p);
          for (const float value : y) right = right && value == y[0];
          // A first run may have begun before there was a cluster; later ones know that of it or of a faster run.
          right = right && y[0] >= 2.0f && y[0] <= 2.0f * kThreads && (run < 2 || y[0] == last[t]);
          last[t] = y[0];
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
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
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 8; ++t) {
      threads.emplace_back([&, t] {
        std::mt19937 random(t);
        for (int run = 0; run < 4; ++run) {
          const Problem p = of_input(layer, random);
          right = right && same_bits(run_fused(plan, state, p), without_history(p));
          right = right && state.counts().bytes <= layer.cluster.memory;
          if (t == 0 && run % 2 == 1) state.reset();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT(right, << clusters);
    state.reset();
    EXPECT(state.counts().clusters == 0 && state.counts().bytes == 0);
    RunStatistics statistics;
    run_fused(plan, state, layer, 1, &statistics);
    EXPECT(statistics.known == 0 && state.counts().clusters > 0);
  }
}

// Memory that is used up after some allocations.
class ShortMemory final : public Allocator {
 public:
  explicit ShortMemory(int64_t allocations) : left_(allocations) {}
  void* allocate(size_t bytes) override {
    if (left_-- <= 0) throw std::bad_alloc();
    return source_.allocate(bytes);
  }
  void release(void* memory, size_t bytes) noexcept override { source_.release(memory, bytes); }

 private:
  PoisonedAllocator source_;
  std::atomic<int64_t> left_;
};

class InOrder final : public Parallel {
 public:
  void run(int64_t count, const std::function<void(int64_t)>& body) override {
    for (int64_t i = 0; i < count; ++i) body(i);
  }
};

TEST(a_run_that_fails_leaves_the_state_as_it_was) {
  std::mt19937 random(6);
  Problem layer = channel_problem(random, "sign", 8, 16, 12, 20, 1);
  layer.cluster.scope = Scope::kSession;
  PoisonedAllocator allocator;
  const ReusePlan plan = layer.plan(allocator);
  const Problem first = of_input(layer, random), second = of_input(layer, random);
  ReuseState all(layer.cluster.memory);
  run_fused(plan, all, first);
  const int64_t before = all.counts().clusters;
  for (const int64_t room : {1000, 5}) {  // all of the second run's clusters, or some
    const int64_t memory_bytes = (before + room) * cluster_bytes(layer, true);
    ReuseState state(memory_bytes), other(memory_bytes);
    run_fused(plan, state, first);
    run_fused(plan, other, first);
    const ConvGeometry& g = second.blocking.geometry;
    std::vector<float> y = poisoned<float>(g.rows() * g.out_channels);
    int64_t failures = 0;
    for (bool done = false; !done;) {
      ShortMemory memory(failures);
      InOrder parallel;
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
    EXPECT(same_bits(y, run_fused(plan, other, second)));
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
    run_fused(plan, *state, p, 1, &statistics);
    registry.add("session_test", "a", "ReuseConv", statistics);
  }
  run_fused(plan, *other, p);
  const auto has = [&](const std::string& part) {
    return registry.to_json("session_test").find(part) != std::string::npos;
  };
  EXPECT(has("\"vectors\":108,\"clusters\":1,\"guarded\":0,\"known\":72,\"last_reuse_rate\":1,"));
  EXPECT(has("\"kept_clusters\":1,\"state_bytes\":12"), << registry.to_json("session_test"));
  reuse_reset_clusters("session_test");
  EXPECT(has("\"kept_clusters\":0,\"state_bytes\":0") && has("\"known\":72"));
  EXPECT(other->counts().clusters == 1);
  run_fused(plan, *state, p);
  EXPECT(has("\"kept_clusters\":1"));
  state.reset();
  EXPECT(has("\"kept_clusters\":0"));
  reuse_reset_clusters("session_test");
  registry.forget("session_test");
}

}  // namespace
}  // namespace reuse::testing
