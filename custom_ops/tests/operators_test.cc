// The operators against a convolution in float64, and against each other.
#include <algorithm>
#include <cmath>
#include <limits>

#include "support.h"
#include "test.h"

namespace reuse::testing {
namespace {

constexpr int kCases = 150;

void expect_close(const std::vector<float>& actual, const std::vector<float>& expected, int seed) {
  EXPECT(actual.size() == expected.size());
  float scale = 1.0f;
  for (const float value : expected) scale = std::max(scale, std::fabs(value));
  for (size_t i = 0; i < actual.size(); ++i) {
    EXPECT(std::fabs(actual[i] - expected[i]) <= 1e-4f * scale,
           << "at " << i << ": " << actual[i] << ", expected " << expected[i] << ", seed " << seed);
  }
}

TEST(exact_equals_dense) {
  for (int seed = 0; seed < kCases; ++seed) {
    std::mt19937 random(static_cast<unsigned>(seed));
    const Problem problem = random_problem(random, "exact");
    expect_close(run_fused(problem, 1), dense(problem), seed);
  }
}

TEST(fused_equals_staged_for_any_number_of_threads) {
  for (int seed = 0; seed < kCases; ++seed) {
    std::mt19937 random(static_cast<unsigned>(1000 + seed));
    const Problem problem = random_problem(random, family_of(seed));
    const std::vector<float> fused = run_fused(problem, 1);
    EXPECT(fused == run_fused(problem, 3), << "seed " << seed);
    expect_close(run_staged(problem, 2), fused, seed);
  }
}

TEST(orders_of_data_change_no_bit) {
  for (int seed = 0; seed < 2 * kCases; ++seed) {
    std::mt19937 random(static_cast<unsigned>(4000 + seed));
    Problem problem = random_problem(random, family_of(seed));
    if (seed % 8 >= 4) problem.table = TableType::kInt8;
    const std::vector<float> expected = run_fused(problem, 1);
    ConvAttributes& attributes = problem.blocking.geometry.attributes;
    attributes.output_order = DataOrder::kNhwc;
    EXPECT(run_fused(problem, 2) == expected, << "output, seed " << seed);
    if (attributes.layout == Layout::kPatch) continue;
    attributes.input_order = DataOrder::kNhwc;
    EXPECT(run_fused(problem, 1) == expected, << "input and output, seed " << seed);
    attributes.output_order = DataOrder::kNchw;
    EXPECT(run_fused(problem, 3) == expected, << "input, seed " << seed);
  }
}

// Vectors of many lengths, as the kernels have paths for 8, 16 and others, and channels that are not read; so many
// channels that short vectors are clustered in one pass, and fewer.
TEST(orders_of_data_change_no_bit_for_many_channels) {
  for (const char* family : {"sign", "learned", "exact"}) {
    for (const int64_t channels : {48, 200}) {
      for (const int64_t length : {3, 4, 6, 8, 11, 16, 20, 32, 48}) {
        for (const Scope scope : {Scope::kBatch, Scope::kImage}) {
          std::mt19937 random(static_cast<unsigned>(length));
          Problem problem = channel_problem(random, family, length, channels);
          problem.cluster.scope = scope;
          if (length % 4 == 0) problem.cluster.capacity = 0.1f;
          RunStatistics before, after;
          const std::vector<float> expected = run_fused(problem, 1, &before);
          ConvAttributes& attributes = problem.blocking.geometry.attributes;
          attributes.input_order = attributes.output_order = DataOrder::kNhwc;
          EXPECT(run_fused(problem, 2, &after) == expected, << family << ", L " << length << " of " << channels);
          EXPECT(after.clusters == before.clusters && after.guarded == before.guarded);
        }
      }
    }
  }
}

TEST(values_that_are_not_finite_are_found_in_pixel_major_data) {
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (const int64_t length : {3, 4, 8, 16, 20}) {
    for (const float value : {infinity, -infinity, nan}) {
      std::mt19937 random(7);
      Problem problem = channel_problem(random, "learned", length, 200);
      for (size_t i = 5; i < problem.x.size(); i += 97) problem.x[i] = value;
      RunStatistics expected, actual;
      run_fused(problem, 1, &expected);
      problem.blocking.geometry.attributes.input_order = DataOrder::kNhwc;
      run_fused(problem, 1, &actual);
      EXPECT(expected.guarded > 0 && actual.guarded == expected.guarded && actual.clusters == expected.clusters);
    }
  }
}

double relative_error(const std::vector<float>& actual, const std::vector<float>& expected) {
  double difference = 0.0, size = 0.0;
  for (size_t i = 0; i < expected.size(); ++i) {
    difference += std::pow(static_cast<double>(actual[i]) - expected[i], 2);
    size += std::pow(static_cast<double>(expected[i]), 2);
  }
  return std::sqrt(difference / std::max(size, 1e-30));  // nothing to compare with: only 0 is near it
}

TEST(int8_tables_are_near_float_ones_for_any_number_of_threads) {
  for (int seed = 0; seed < kCases; ++seed) {
    std::mt19937 random(static_cast<unsigned>(3000 + seed));
    Problem problem = random_problem(random, family_of(seed));
    const std::vector<float> exact = run_fused(problem, 1);
    problem.table = TableType::kInt8;
    const std::vector<float> rounded = run_fused(problem, 1);
    EXPECT(rounded == run_fused(problem, 3), << "seed " << seed);
    EXPECT(relative_error(rounded, exact) <= 0.1, << relative_error(rounded, exact) << ", seed " << seed);
  }
}

// 2048 distinct pixels: a block's table takes 1.1 MiB (3x3) or 3.1 MiB (5x5), so that the sums of one block wait while
// the next one's table is made; 5x5 taps of 12 blocks need two scales.
TEST(int8_tables_that_do_not_fit_the_cache_together) {
  for (const int64_t kernel : {3, 5}) {
    for (const int64_t group : {1, 2}) {
      std::mt19937 random(static_cast<unsigned>(kernel));
      std::normal_distribution<float> normal;
      ConvAttributes a;
      a.kernel_h = a.kernel_w = kernel;
      a.pad_top = a.pad_left = a.pad_bottom = a.pad_right = kernel / 2;
      a.sub_vector_length = 2;
      a.group = group;
      Problem p;
      p.blocking = Blocking::make(ConvGeometry::make(a, 2, 24 * group, 32, 32, 40 * group));
      p.hash = {&find_hash_family("exact"), 1};
      p.cluster.verify = true;
      for (int64_t i = 0; i < 2 * 24 * group * 32 * 32; ++i) p.x.push_back(normal(random));
      for (int64_t i = 0; i < 40 * group * 24 * kernel * kernel; ++i) p.w.push_back(normal(random));
      p.table = TableType::kInt8;
      const std::vector<float> rounded = run_fused(p, 1);
      EXPECT(rounded == run_fused(p, 3));
      EXPECT(relative_error(rounded, dense(p)) < 0.05, << relative_error(rounded, dense(p)));
    }
  }
}

TEST(clusters_are_numbered_by_first_appearance) {
  for (int seed = 0; seed < kCases; ++seed) {
    std::mt19937 random(static_cast<unsigned>(2000 + seed));
    const Problem p = random_problem(random, "sign");
    PoisonedAllocator allocator;
    Threads parallel(2);
    Workspace workspace(allocator, parallel);
    std::vector<int64_t> codes = poisoned<int64_t>(p.blocking.num_blocks() * p.blocking.vectors);
    hash(workspace, p.blocking, *p.encoder(allocator), p.x.data(), codes.data());
    const Clusters clusters = cluster(workspace, p.blocking, p.cluster, p.x.data(), codes.data());
    int64_t total = 0;
    for (int64_t b = 0; b < p.blocking.num_blocks(); ++b) {
      int32_t next = 0;
      for (int64_t v = 0; v < p.blocking.vectors; ++v) {
        const int32_t id = clusters.ids[static_cast<size_t>(b * p.blocking.vectors + v)];
        EXPECT(id >= 0 && id <= next, << "seed " << seed);
        if (id == next) ++next;
      }
      EXPECT(next == clusters.blocks[static_cast<size_t>(b)].count, << "seed " << seed);
      total += next;
    }
    EXPECT(total == workspace.statistics.clusters);
  }
}

// One channel, one row of pixels, 1x1 kernel of weight 1: the output shows the centroids.
Problem pixels(const std::vector<float>& values, float capacity) {
  ConvAttributes a;
  Problem p;
  p.blocking = Blocking::make(ConvGeometry::make(a, 1, 1, 1, static_cast<int64_t>(values.size()), 1));
  p.hash = {&find_hash_family("sign"), 1};
  p.cluster.capacity = capacity;
  p.x = values;
  p.w = {1.0f};
  p.projections = {1.0f};
  p.thresholds = {0.0f};
  return p;
}

TEST(centroid_is_the_mean) { EXPECT(run_fused(pixels({1, 3, -2, -4}, 1.0f), 1) == std::vector<float>({2, 2, -3, -3})); }

TEST(centroid_of_large_values_does_not_overflow) {
  const float large = std::numeric_limits<float>::max();
  EXPECT(run_fused(pixels({large, large, large}, 1.0f), 1) == std::vector<float>({large, large, large}));
}

TEST(guard_computes_vectors_beyond_capacity_densely) {
  RunStatistics statistics;
  // One shared cluster: the positive values; each negative one stands alone.
  EXPECT(run_fused(pixels({1, 3, -2, -4}, 0.25f), 1, &statistics) == std::vector<float>({2, 2, -2, -4}));
  EXPECT(statistics.guarded == 2 && statistics.clusters == 3 && statistics.vectors == 4);
}

TEST(values_that_are_not_finite_do_not_spread) {
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (const Metric metric : {Metric::kEuclidean, Metric::kAngular}) {
    Problem problem = pixels({1, infinity, 3, nan, -infinity, -2}, 1.0f);
    problem.cluster.metric = metric;
    const std::vector<float> y = run_fused(problem, 1);
    EXPECT(y[0] == 2 && y[2] == 2 && y[5] == -2);
    EXPECT(y[1] == infinity && std::isnan(y[3]) && y[4] == -infinity);
  }
}

TEST(angular_centroid_has_the_mean_norm) {
  ConvAttributes a;
  a.sub_vector_length = 2;
  Problem p;
  p.blocking = Blocking::make(ConvGeometry::make(a, 1, 2, 1, 2, 2));
  p.hash = {&find_hash_family("sign"), 1};
  p.cluster.metric = Metric::kAngular;
  p.x = {3, 0, 0, 1};  // vectors (3, 0) and (0, 1): mean direction (1/2, 1/2), mean norm 2
  p.w = {1, 0, 0, 1};
  p.projections = {1, 1};
  p.thresholds = {0};
  EXPECT(run_fused(p, 1) == std::vector<float>({1, 1, 1, 1}));
}

TEST(a_table_over_the_budget_is_made_in_strips) {
  // 2^16 distinct pixels, 9 taps, 64 channels: 144 MiB of table, far more than the budget.
  ConvAttributes a;
  a.kernel_h = a.kernel_w = 3;
  a.pad_top = a.pad_left = a.pad_bottom = a.pad_right = 1;
  Problem p;
  p.blocking = Blocking::make(ConvGeometry::make(a, 1, 1, 256, 256, 40));
  p.hash = {&find_hash_family("exact"), 1};
  p.cluster.verify = true;
  for (int i = 0; i < 256 * 256; ++i) p.x.push_back(static_cast<float>(i) / 65536.0f - 0.5f);
  for (int i = 0; i < 40 * 9; ++i) p.w.push_back(static_cast<float>(i % 7) - 3.0f);
  expect_close(run_fused(p, 2), dense(p), 0);
}

TEST(ids_outside_the_table_are_refused) {
  Problem p = pixels({1, 2}, 1.0f);
  PoisonedAllocator allocator;
  Threads parallel(1);
  Workspace workspace(allocator, parallel);
  const std::vector<float> table = {1.0f};
  const std::vector<int32_t> ids = {0, 1};
  std::vector<float> y = poisoned<float>(2);
  expect_throw<std::out_of_range>(
      "ids hold 1", [&] { gather(workspace, p.blocking, p.gather, table.data(), 1, ids.data(), nullptr, y.data()); });
}

TEST(counts_outside_the_centroids_are_refused) {
  Problem p = pixels({1, 2}, 1.0f);
  PoisonedAllocator allocator;
  Threads parallel(1);
  Workspace workspace(allocator, parallel);
  const std::vector<float> centroids = {1.0f};
  std::vector<float> table(1);
  for (const int32_t count : {2, -1}) {
    expect_throw<std::out_of_range>("counts hold " + std::to_string(count), [&] {
      centroid_gemm(workspace, p.blocking, p.w.data(), centroids.data(), &count, 1, table.data());
    });
  }
}

TEST(an_empty_batch_gives_an_empty_output) {
  for (const char* family : {"sign", "exact"}) {
    std::mt19937 random(1);
    Problem p = random_problem(random, family);
    ConvGeometry g = p.blocking.geometry;
    p.blocking = Blocking::make(ConvGeometry::make(g.attributes, 0, g.in_channels, g.in_h, g.in_w, g.out_channels));
    p.x.clear();
    EXPECT(run_fused(p, 1).empty() && run_staged(p, 1).empty());
  }
}

// A convolution that reads nothing but padding: of every layout, family, type of table and order of data.
TEST(an_image_without_pixels_gives_the_bias) {
  for (int seed = 0; seed < 2 * kCases; ++seed) {
    std::mt19937 random(static_cast<unsigned>(5000 + seed));
    Problem p = random_problem(random, family_of(seed));
    const ConvGeometry g = p.blocking.geometry;
    ConvAttributes a = g.attributes;
    a.pad_top = a.pad_left = 4;
    a.pad_bottom = a.pad_right = 3;
    const int64_t height = seed % 5 < 3 ? 0 : 5, width = seed % 5 != 1 ? 0 : 5;
    p.blocking = Blocking::make(ConvGeometry::make(a, g.batch, g.in_channels, height, width, g.out_channels));
    p.x.clear();
    const std::vector<float> expected = dense(p);
    expect_close(run_staged(p, 1), expected, seed);
    if (seed % 4 == 0) p.table = TableType::kInt8;
    ConvAttributes& own = p.blocking.geometry.attributes;
    if (a.layout == Layout::kChannel && seed % 3 == 0) own.input_order = DataOrder::kNhwc;
    if (seed % 2 == 0) own.output_order = DataOrder::kNhwc;
    expect_close(run_fused(p, 2), expected, seed);
  }
}

TEST(wrong_parameters_are_named) {
  const HashFamily& sign = find_hash_family("sign");
  HashParameterSizes sizes;
  expect_throw<std::invalid_argument>("projections is missing", [&] { sign.check(sizes, {2, 3, 4}); });
  sizes.projections = 24;
  sizes.thresholds = 7;
  expect_throw<std::invalid_argument>("thresholds has 7 elements, needs 8", [&] { sign.check(sizes, {2, 3, 4}); });
  expect_throw<std::invalid_argument>("num_hashes is 65", [&] { sign.check(sizes, {2, 3, 65}); });
  expect_throw<std::invalid_argument>("family is 'pstable', must be one of sign, learned",
                                      [] { find_hash_family("pstable"); });
  expect_throw<std::invalid_argument>("capacity",
                                      [] { ClusterAttributes{Scope::kBatch, Metric::kEuclidean, 0.0f}.check(); });
  expect_throw<std::invalid_argument>("table is 'int4'", [] { parse_table_type("int4"); });
  expect_throw<std::invalid_argument>("exclude each other", [] { GatherAttributes::of(0.1f, 0.0f, 6.0f); });
  expect_throw<std::invalid_argument>("is NaN", [] { GatherAttributes::of(1.0f, std::nanf(""), 6.0f); });
}

}  // namespace
}  // namespace reuse::testing
