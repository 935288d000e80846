// The CUDA kernels, on the host or on a GPU (cuda_problem.h), against the CPU's.
#include <algorithm>
#include <cmath>
#include <limits>

#include "cuda_support.h"
#include "test.h"

namespace reuse::testing {
namespace {

using Order = BlockOrder;

TEST(cuda_fused_equals_cpu) {
  for (int seed = 0; seed < cases(); ++seed) {
    std::mt19937 random(static_cast<unsigned>(5000 + seed));
    const Problem problem = random_problem(random, family_of(seed));
    RunStatistics expected, actual;
    const std::vector<float> cpu = run_fused(problem, 1, &expected);
    expect_near(run_cuda_fused(problem, CudaMode::kStrict, kOrders[seed % 3], &actual), cpu, 1e-5, "fused", seed);
    EXPECT(actual.clusters == expected.clusters && actual.guarded == expected.guarded,
           << actual.clusters << " clusters, expected " << expected.clusters << "; " << actual.guarded
           << " guarded, expected " << expected.guarded << ", seed " << seed);
    expect_near(run_cuda_fused(problem, CudaMode::kTf32, kOrders[seed % 3]), cpu, 3e-3, "TF32", seed);
  }
}

TEST(cuda_staged_equals_cpu) {
  for (int seed = 0; seed < cases(); ++seed) {
    std::mt19937 random(static_cast<unsigned>(6000 + seed));
    const Problem problem = random_problem(random, family_of(seed));
    RunStatistics expected, actual;
    const std::vector<float> cpu = run_fused(problem, 1, &expected);
    expect_near(run_cuda_staged(problem, CudaMode::kStrict, kOrders[seed % 3], &actual), cpu, 1e-5, "staged", seed);
    EXPECT(actual.clusters == expected.clusters && actual.guarded == expected.guarded, << "seed " << seed);
    expect_near(run_cuda_staged(problem, CudaMode::kTf32, kOrders[seed % 3]), cpu, 3e-3, "TF32", seed);
  }
}

// Codes of few values, so that verified members collide, and ids and centroids as the contract says.
TEST(cuda_clusters_are_the_cpus) {
  for (int seed = 0; seed < cases(); ++seed) {
    std::mt19937 random(static_cast<unsigned>(10000 + seed));
    const Problem p = random_problem(random, family_of(seed));
    const int64_t blocks = p.blocking.num_blocks(), vectors = p.blocking.vectors,
                  length = p.blocking.sub_vector_length();
    std::vector<int64_t> codes(static_cast<size_t>(blocks * vectors));
    for (int64_t& code : codes) code = static_cast<int64_t>(random() % 3) - 1;
    PoisonedAllocator allocator;
    Threads parallel(1);
    Workspace workspace(allocator, parallel);
    const Clusters expected = cluster(workspace, p.blocking, p.cluster, p.x.data(), codes.data());
    CudaProblem problem = cuda_problem(p);
    problem.limits = kPaths[seed % 2];
    const CudaClusters actual = run_cuda_cluster(problem, codes, kOrders[seed % 3]);
    for (int64_t i = 0; i < blocks * vectors; ++i) {
      EXPECT(actual.ids[static_cast<size_t>(i)] == expected.ids[static_cast<size_t>(i)], << "seed " << seed);
    }
    for (int64_t b = 0; b < blocks; ++b) {
      const BlockClusters& own = expected.blocks[static_cast<size_t>(b)];
      EXPECT(actual.counts[static_cast<size_t>(b)] == own.count, << "seed " << seed);
      for (int64_t i = 0; i < actual.rows * length; ++i) {
        const float centroid = i < own.count * length ? own.centroids[static_cast<size_t>(i)] : 0.0f;
        const float found = actual.centroids[static_cast<size_t>(b * actual.rows * length + i)];
        EXPECT(std::fabs(found - centroid) <= 1e-6f * std::max(1.0f, std::fabs(centroid)),
               << found << ", expected " << centroid << ", seed " << seed);
      }
    }
  }
}

// Few bits of code for many clusters: the slots must not run out.
TEST(cuda_verifies_members_of_any_family) {
  for (int seed = 0; seed < cases(); ++seed) {
    std::mt19937 random(static_cast<unsigned>(11000 + seed));
    Problem problem = random_problem(random, seed % 2 == 0 ? "sign" : "learned");
    problem.cluster.verify = true;
    RunStatistics expected, actual;
    const std::vector<float> cpu = run_fused(problem, 1, &expected);
    expect_near(run_cuda_fused(problem, CudaMode::kStrict, kOrders[seed % 3], &actual), cpu, 1e-5, "verified", seed);
    EXPECT(actual.clusters == expected.clusters && actual.guarded == expected.guarded, << "seed " << seed);
  }
}

TEST(cuda_pool_equals_cpu) {
  for (int seed = 0; seed < cases(); ++seed) {
    std::mt19937 random(static_cast<unsigned>(12000 + seed));
    const auto draw = [&](int64_t low, int64_t high) {
      return low + static_cast<int64_t>(random() % (high - low + 1));
    };
    const PoolAttributes a = random_pool_attributes(random);
    a.check();
    const int64_t batch = draw(1, 3), channels = draw(1, 40);
    const PoolAxis height = pool_axis(a, 0, draw(4, 12)), width = pool_axis(a, 1, draw(4, 12));
    std::vector<float> x(static_cast<size_t>(batch * height.in * width.in * channels));
    std::normal_distribution<float> normal;
    for (float& value : x) value = normal(random);
    std::vector<float> expected = poisoned<float>(batch * height.out * width.out * channels);
    PoisonedAllocator allocator;
    Threads parallel(1);
    Workspace workspace(allocator, parallel);
    pool(workspace, a, batch, height, width, channels, x.data(), expected.data());
    const std::vector<float> actual = run_cuda_pool(a, batch, height, width, channels, x, kOrders[seed % 3]);
    expect_near(actual, expected, 1e-6, "pool", seed);
  }
}

// Only padding is read, and what would tell the scale of a table is not known.
TEST(cuda_images_without_pixels_give_the_bias) {
  for (int seed = 0; seed < cases(); ++seed) {
    std::mt19937 random(static_cast<unsigned>(13000 + seed));
    Problem p = random_problem(random, family_of(seed));
    const ConvGeometry g = p.blocking.geometry;
    ConvAttributes a = g.attributes;
    a.pad_top = a.pad_bottom = a.pad_left = a.pad_right = 4;
    p.blocking = Blocking::make(ConvGeometry::make(a, g.batch, g.in_channels, seed % 2 * 5, 0, g.out_channels));
    p.x.clear();
    p = rounded_to_half(p);
    const std::vector<float> expected = dense(p);
    for (const CudaMode mode : {CudaMode::kStrict, CudaMode::kTf32, CudaMode::kHalf}) {
      expect_near(run_cuda_fused(p, mode, kOrders[seed % 3]), expected, 1e-3, "fused", seed);
      expect_near(run_cuda_staged(p, mode, kOrders[seed % 3]), expected, 1e-3, "staged", seed);
    }
  }
}

TEST(cuda_half_is_near_cpu) {
  for (int seed = 0; seed < cases(); ++seed) {
    std::mt19937 random(static_cast<unsigned>(7000 + seed));
    const Problem problem = rounded_to_half(random_problem(random, family_of(seed)));
    const std::vector<float> cpu = run_fused(problem, 1);
    expect_near(run_cuda_fused(problem, CudaMode::kHalf, kOrders[seed % 3]), cpu, 3e-3, "fused", seed);
    expect_near(run_cuda_staged(problem, CudaMode::kHalf, kOrders[seed % 3]), cpu, 3e-3, "staged", seed);
  }
}

TEST(cuda_results_do_not_depend_on_the_order_of_blocks) {
  for (int seed = 0; seed < cases(); ++seed) {
    std::mt19937 random(static_cast<unsigned>(8000 + seed));
    const Problem problem = random_problem(random, family_of(seed));
    const std::vector<float> fused = run_cuda_fused(problem, CudaMode::kStrict, Order::kForwards);
    const std::vector<float> staged = run_cuda_staged(problem, CudaMode::kStrict, Order::kForwards);
    for (const Order order : {Order::kBackwards, Order::kShuffled}) {
      EXPECT(run_cuda_fused(problem, CudaMode::kStrict, order) == fused, << "fused, seed " << seed);
      EXPECT(run_cuda_staged(problem, CudaMode::kStrict, order) == staged, << "staged, seed " << seed);
    }
  }
}

TEST(cuda_orders_of_data_change_no_bit) {
  for (int seed = 0; seed < cases(); ++seed) {
    std::mt19937 random(static_cast<unsigned>(9000 + seed));
    Problem problem = random_problem(random, family_of(seed));
    const std::vector<float> expected = run_cuda_fused(problem, CudaMode::kStrict, Order::kForwards);
    ConvAttributes& attributes = problem.blocking.geometry.attributes;
    attributes.output_order = DataOrder::kNhwc;
    EXPECT(run_cuda_fused(problem, CudaMode::kStrict, Order::kShuffled) == expected, << "output, seed " << seed);
    if (attributes.layout == Layout::kPatch) continue;
    attributes.input_order = DataOrder::kNhwc;
    EXPECT(run_cuda_fused(problem, CudaMode::kStrict, Order::kShuffled) == expected, << "both, seed " << seed);
  }
}

// More channels, vectors and clusters than one tile of any kernel has.
TEST(cuda_tiles_are_put_together) {
  for (const HashFamily* each : hash_families()) {
    const char* family = each->name();
    for (const int64_t length : {16, 20, 48}) {
      std::mt19937 random(static_cast<unsigned>(length));
      Problem problem = channel_problem(random, family, length);
      problem.blocking = Blocking::make(ConvGeometry::make(problem.blocking.geometry.attributes, 3, 48, 21, 23, 150));
      std::normal_distribution<float> normal;
      problem.x.resize(3 * 48 * 21 * 23);
      problem.w.resize(150 * 48 * 9);
      problem.bias.resize(150);
      for (auto* values : {&problem.x, &problem.w, &problem.bias}) {
        for (float& value : *values) value = normal(random);
      }
      RunStatistics expected, actual;
      const std::vector<float> cpu = run_fused(problem, 1, &expected);
      expect_near(run_cuda_fused(problem, CudaMode::kStrict, Order::kShuffled, &actual), cpu, 1e-5, family, 0);
      EXPECT(actual.clusters == expected.clusters);
      expect_near(run_cuda_fused(problem, CudaMode::kTf32, Order::kForwards), cpu, 2e-3, family, 0);
      const Problem half = rounded_to_half(problem);
      expect_near(run_cuda_fused(half, CudaMode::kHalf, Order::kForwards), run_fused(half, 1), 2e-3, family, 0);
    }
  }
}

TEST(cuda_guards_what_is_not_finite) {
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (const char* family : {"sign", "learned", "exact"}) {
    for (const float value : {infinity, -infinity, nan}) {
      std::mt19937 random(7);
      Problem problem = channel_problem(random, family, 16);
      for (size_t i = 5; i < problem.x.size(); i += 97) problem.x[i] = value;
      RunStatistics expected, actual;
      const std::vector<float> cpu = run_fused(problem, 1, &expected);
      for (const CudaMode mode : {CudaMode::kStrict, CudaMode::kTf32, CudaMode::kHalf}) {
        expect_near(run_cuda_fused(problem, mode, Order::kShuffled, &actual), cpu, 5e-3, family, 0);
        EXPECT(actual.guarded == expected.guarded && actual.clusters == expected.clusters);
        expect_near(run_cuda_staged(problem, mode, Order::kShuffled), cpu, 5e-3, family, 0);
      }
    }
  }
}

TEST(cuda_half_tables_do_not_overflow) {
  for (const float size : {1e-30f, 1e-3f, 3e4f, 1e15f}) {
    std::mt19937 random(11);
    Problem problem = channel_problem(random, "learned", 16);
    for (float& value : problem.x) value *= size;
    problem.thresholds.assign(problem.thresholds.size(), 0.0f);
    problem.bias.clear();
    const std::vector<float> cpu = run_fused(problem, 1),
                             own = run_cuda_fused(problem, CudaMode::kTf32, Order::kForwards);
    std::vector<float> actual, expected;
    for (const float value : own) actual.push_back(value / size);
    for (const float value : cpu) expected.push_back(value / size);
    expect_near(actual, expected, 2e-3, "scaled", 0);
  }
}

TEST(cuda_ids_and_counts_are_the_cpus_for_an_empty_batch) {
  std::mt19937 random(3);
  Problem problem = channel_problem(random, "sign", 16);
  problem.blocking = Blocking::make(ConvGeometry::make(problem.blocking.geometry.attributes, 0, 48, 9, 11, 40));
  problem.x.clear();
  EXPECT(run_cuda_fused(problem, CudaMode::kStrict, Order::kForwards).empty());
  EXPECT(run_cuda_staged(problem, CudaMode::kStrict, Order::kForwards).empty());
}

TEST(cuda_half_converts_as_it_should) {
  for (uint32_t bits = 0; bits < 0x10000u; ++bits) {
    const cuda::Half half{static_cast<uint16_t>(bits)};
    const float value = cuda::to_float(half);
    if (std::isnan(value)) continue;
    EXPECT(cuda::to_half(value).bits == half.bits, << bits);
    const float next = cuda::to_float(cuda::Half{static_cast<uint16_t>(bits + 1)});
    if (!std::isfinite(next) || !std::isfinite(value) || (bits & 0x7FFFu) == 0x7FFFu) continue;
    // Half way between neighbours the even one is taken.
    const uint32_t even = bits % 2 == 0 ? bits : bits + 1;
    EXPECT(cuda::to_half((value + next) / 2.0f).bits == even, << bits);
  }
  EXPECT(std::isinf(cuda::to_float(cuda::to_half(65520.0f))) && cuda::to_float(cuda::to_half(65519.0f)) == 65504.0f);
  EXPECT(std::isnan(cuda::to_float(cuda::to_half(std::numeric_limits<float>::quiet_NaN()))));
  EXPECT(cuda::exponent_above(0.0f) == -149 && cuda::exponent_above(1.0f) == 1 && cuda::exponent_above(0.75f) == 0);
  EXPECT(cuda::exponent_above(std::numeric_limits<float>::denorm_min()) == -148);
}

}  // namespace
}  // namespace reuse::testing
