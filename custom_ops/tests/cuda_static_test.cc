// Scope static by the CUDA kernels, on the host or on a GPU (cuda_problem.h), against the CPU's.
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "../cuda/static_conv.h"
#include "cuda_support.h"
#include "test.h"

namespace reuse::testing {
namespace {

using Order = BlockOrder;

void draw(std::mt19937& random, std::vector<float>& values, int64_t count) {
  std::normal_distribution<float> normal;
  values.resize(static_cast<size_t>(count));
  for (float& value : values) value = normal(random);
}

// A problem with centroids; every third has elements that are not finite.
Problem static_problem(int seed) {
  std::mt19937 random(static_cast<unsigned>(14000 + seed));
  Problem p = random_problem(random, seed % 2 == 0 ? "sign" : "learned");
  p.hash.num_hashes = 1 + seed % 6;
  p.cluster = {};
  p.cluster.scope = Scope::kStatic;
  p.table = seed % 4 < 2 ? TableType::kInt8 : TableType::kFloat;
  p.keep_tables = seed % 5 != 0;
  draw_parameters(random, p);
  draw(random, p.centroids, (p.blocking.num_blocks() << p.hash.num_hashes) * p.blocking.sub_vector_length());
  const float infinity = std::numeric_limits<float>::infinity();
  const float spoilt[] = {infinity, -infinity, std::numeric_limits<float>::quiet_NaN()};
  if (seed % 3 == 0) {
    for (size_t i = random() % 20, n = 0; i < p.x.size(); i += 1 + random() % 40, ++n) p.x[i] = spoilt[n % 3];
  }
  return p;
}

// Whether all bits are equal, but those of a NaN.
void expect_same(const std::vector<float>& actual, const std::vector<float>& expected, const char* what, int seed) {
  EXPECT(actual.size() == expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    const bool same = std::memcmp(&actual[i], &expected[i], sizeof(float)) == 0;
    EXPECT(same || (std::isnan(actual[i]) && std::isnan(expected[i])),
           << what << " at " << i << ": " << actual[i] << ", expected " << expected[i] << ", seed " << seed);
  }
}

TEST(cuda_static_has_the_bits_of_the_cpus) {
  for (int seed = 0; seed < cases(); ++seed) {
    const Problem problem = static_problem(seed);
    RunStatistics expected, actual;
    const std::vector<float> cpu = run_fused(problem, 1, &expected);
    expect_same(run_cuda_fused(problem, CudaMode::kStrict, kOrders[seed % 3], &actual), cpu, "static", seed);
    EXPECT(actual.clusters == expected.clusters && actual.guarded == expected.guarded,
           << actual.clusters << " clusters, expected " << expected.clusters << "; " << actual.guarded
           << " guarded, expected " << expected.guarded << ", seed " << seed);
  }
}

TEST(cuda_static_in_half_is_near_the_cpus) {
  for (int seed = 0; seed < cases(); ++seed) {
    const Problem problem = rounded_to_half(static_problem(seed));
    expect_near(run_cuda_fused(problem, CudaMode::kHalf, kOrders[seed % 3]), run_fused(problem, 1), 3e-3, "half", seed);
  }
}

TEST(cuda_static_staged_is_near_the_cpus) {
  for (int seed = 0; seed < cases(); ++seed) {
    Problem problem = static_problem(seed);
    problem.table = TableType::kFloat;
    RunStatistics expected, actual;
    const std::vector<float> cpu = run_fused(problem, 1, &expected);
    expect_near(run_cuda_staged(problem, CudaMode::kStrict, kOrders[seed % 3], &actual), cpu, 1e-5, "staged", seed);
    EXPECT(actual.clusters == expected.clusters && actual.guarded == expected.guarded, << "seed " << seed);
  }
}

// More channels, vectors and centroids than one tile of any kernel has.
TEST(cuda_static_tiles_are_put_together) {
  for (const TableType table : {TableType::kFloat, TableType::kInt8}) {
    for (const bool keep : {false, true}) {
      std::mt19937 random(5);
      Problem p = channel_problem(random, "learned", 20, 48, 9);
      p.blocking = Blocking::make(ConvGeometry::make(p.blocking.geometry.attributes, 2, 48, 21, 23, 150));
      p.cluster.scope = Scope::kStatic;
      p.table = table;
      p.keep_tables = keep;
      draw(random, p.x, 2 * 48 * 21 * 23);
      draw(random, p.w, 150 * 48 * 9);
      draw(random, p.bias, 150);
      draw(random, p.centroids, p.blocking.num_blocks() * 512 * 20);
      expect_same(run_cuda_fused(p, CudaMode::kStrict, Order::kShuffled), run_fused(p, 1), "tiles", keep ? 1 : 0);
    }
  }
}

// Ids and centroids as the contract says; a code without a centroid is no cluster's.
TEST(cuda_given_clusters_are_the_cpus) {
  for (int seed = 0; seed < cases(); ++seed) {
    const Problem p = static_problem(seed);
    std::mt19937 random(static_cast<unsigned>(seed));
    const int64_t blocks = p.blocking.num_blocks(), vectors = p.blocking.vectors,
                  length = p.blocking.sub_vector_length(), count = int64_t{1} << p.hash.num_hashes;
    std::vector<int64_t> codes(static_cast<size_t>(blocks * vectors));
    for (int64_t& code : codes) code = static_cast<int64_t>(random() % static_cast<uint64_t>(count));
    PoisonedAllocator allocator;
    Threads parallel(1);
    Workspace workspace(allocator, parallel);
    const Clusters expected =
        given_clusters(workspace, p.blocking, p.centroids.data(), count, p.x.data(), codes.data());
    const CudaClusters actual = run_cuda_cluster(cuda_problem(p), codes, kOrders[seed % 3]);
    EXPECT(std::equal(actual.ids.begin(), actual.ids.end(), expected.ids.data()), << "seed " << seed);
    for (int64_t b = 0; b < blocks; ++b) {
      const BlockClusters& own = expected.blocks[static_cast<size_t>(b)];
      EXPECT(actual.counts[static_cast<size_t>(b)] == own.count, << "seed " << seed);
      std::vector<float> rows(static_cast<size_t>(actual.rows * length), 0.0f);
      std::copy_n(own.centroids.data(), own.count * length, rows.begin());
      const auto first = actual.centroids.begin() + b * actual.rows * length;
      expect_same({first, first + actual.rows * length}, rows, "centroids", seed);
    }
    if (codes.empty() || expected.ids.data()[0] >= count) continue;
    for (const int64_t wrong : {count, int64_t{-1}, int64_t{1} << 40}) {
      codes[0] = wrong;
      EXPECT(run_cuda_cluster(cuda_problem(p), codes, kOrders[seed % 3]).ids[0] == -1, << "seed " << seed);
    }
  }
}

TEST(cuda_static_refuses_what_has_no_tables) {
  Problem p = static_problem(1);
  const auto run = [&] { run_cuda_fused(p, CudaMode::kStrict, Order::kForwards); };
  p.table = TableType::kInt8;
  p.centroids[3] = 1e37f;
  p.w.assign(p.w.size(), 1.0f);
  expect_throw<std::invalid_argument>(
      "table is int8, but products of centroids and W exceed 2^120 or are NaN; set table to float", run);
  for (const float value : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    p.centroids[3] = value;
    expect_throw<std::invalid_argument>("centroids hold a value that is not finite", run);
  }
  ConvAttributes many;
  many.kernel_h = many.kernel_w = 1;
  many.layout = Layout::kChannel;
  many.sub_vector_length = 1;
  const Blocking blocking = Blocking::of_any_size(many, (1 << 17) + 1, 1);
  expect_throw<std::invalid_argument>(
      "table is int8, but outputs are sums of 131073 entries, 1 sums of neighbouring taps in a block: at most 131072 "
      "and "
      "258 are exact; set table to float",
      [&] { cuda::StaticConv<float, int8_t>(blocking, 2, true); });
}

TEST(cuda_refuses_to_cluster_in_other_scopes) {
  std::mt19937 random(3);
  Problem p = channel_problem(random, "sign", 16);
  for (const Scope scope : {Scope::kSession, Scope::kStatic}) {
    p.cluster.scope = scope;
    expect_throw<std::invalid_argument>(
        "vectors are clustered on CUDA in the scopes image and batch only; choose one of them",
        [&] { cuda::StagedCluster<float>(p.blocking, p.cluster); });
  }
}

}  // namespace
}  // namespace reuse::testing
