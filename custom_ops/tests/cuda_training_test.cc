// Training on the CUDA kernels, on the host or on a GPU (cuda_problem.h), against the CPU's kernels.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <random>

#include "cuda_support.h"
#include "reuse/training.h"
#include "test.h"

namespace reuse::testing {
namespace {

// The CPU's step on the same memory: x and dy are in the orders of the blocking.
CudaStep run_cpu_step(const Problem& p, const std::vector<float>& x, const std::vector<float>& dy) {
  PoisonedAllocator allocator;
  Threads parallel(1);
  Workspace workspace(allocator, parallel);
  const Clusters found = hash_and_cluster(workspace, p.blocking, *p.encoder(workspace), p.cluster, x.data());
  CudaStep step;
  step.clusters.ids.assign(found.ids.data(), found.ids.data() + found.ids.size());
  for (const BlockClusters& own : found.blocks) step.clusters.counts.push_back(static_cast<int32_t>(own.count));
  step.y.resize(dy.size());
  const PackedWeights packed(workspace, p.blocking, TableType::kFloat, p.w.data());
  multiply_and_gather(workspace, p.blocking, {}, packed, found, p.bias.empty() ? nullptr : p.bias.data(),
                      step.y.data());
  step.weights.resize(p.w.size());
  step.x.resize(x.size());
  backward(workspace, p.blocking, found, p.w.data(), dy.data(), {step.weights.data(), step.x.data()});
  return step;
}

void expect_cpus_step(const Problem& p, const std::vector<float>& dy, BlockOrder order, int seed) {
  CudaProblem own = cuda_problem(p);
  own.limits = kPaths[seed % 2];
  const CudaStep cpu = run_cpu_step(p, own.x, dy), strict = run_cuda_step(own, CudaMode::kStrict, dy, order);
  EXPECT(strict.clusters.ids == cpu.clusters.ids, << "ids, seed " << seed);
  EXPECT(strict.clusters.counts == cpu.clusters.counts, << "counts, seed " << seed);
  expect_near(strict.y, cpu.y, 1e-5, "y", seed);
  expect_near(strict.weights, cpu.weights, 1e-5, "gradient of the weights", seed);
  expect_near(strict.x, cpu.x, 1e-5, "gradient of the input", seed);
  expect_near(run_cuda_step(own, CudaMode::kTf32, dy, order).y, cpu.y, 3e-3, "y in TF32", seed);
}

TEST(cuda_step_equals_cpu) {
  for (int seed = 0; seed < cases(); ++seed) {
    std::mt19937 random(static_cast<unsigned>(13000 + seed));
    const Problem p = random_problem(random, family_of(seed));
    expect_cpus_step(p, random_deltas(random, p.blocking.geometry), kOrders[seed % 3], seed);
  }
}

// More vectors, taps, channels and clusters than one block of threads takes: clusters of one vector, and those that
// many chunks of vectors have a part of.
Problem large_problem(std::mt19937& random, int64_t num_hashes, bool pixel_major) {
  Problem p = channel_problem(random, "sign", 20, 48, num_hashes, 150, 9);
  ConvAttributes& a = p.blocking.geometry.attributes;
  if (pixel_major) a.input_order = a.output_order = DataOrder::kNhwc;
  return p;
}

TEST(cuda_step_with_few_and_with_many_clusters_equals_cpu) {
  for (int seed = 0; seed < 4; ++seed) {
    std::mt19937 random(static_cast<unsigned>(14000 + seed));
    const Problem p = large_problem(random, seed % 2 == 0 ? 1 : 12, seed >= 2);
    expect_cpus_step(p, random_deltas(random, p.blocking.geometry), BlockOrder::kShuffled, seed);
  }
}

TEST(cuda_step_does_not_depend_on_the_order_of_blocks) {
  for (int seed = 0; seed < cases(); ++seed) {
    std::mt19937 random(static_cast<unsigned>(15000 + seed));
    const Problem p = random_problem(random, family_of(seed));
    const std::vector<float> dy = random_deltas(random, p.blocking.geometry);
    const CudaStep first = run_cuda_step(cuda_problem(p), CudaMode::kStrict, dy, BlockOrder::kForwards);
    for (const BlockOrder order : {BlockOrder::kBackwards, BlockOrder::kShuffled}) {
      const CudaStep other = run_cuda_step(cuda_problem(p), CudaMode::kStrict, dy, order);
      EXPECT(other.y == first.y && other.weights == first.weights && other.x == first.x, << "seed " << seed);
    }
  }
}

// A loss that overflows must not look like a gradient.
TEST(cuda_gradients_of_deltas_that_are_not_finite_are_not) {
  for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    std::mt19937 random(16000);
    const Problem p = large_problem(random, 3, false);
    std::vector<float> dy = random_deltas(random, p.blocking.geometry);
    dy[dy.size() / 2] = bad;
    const CudaStep step = run_cuda_step(cuda_problem(p), CudaMode::kStrict, dy, BlockOrder::kForwards);
    const auto finite = [](float value) { return std::isfinite(value); };
    EXPECT(!std::all_of(step.weights.begin(), step.weights.end(), finite));
    EXPECT(!std::all_of(step.x.begin(), step.x.end(), finite));
  }
}

TEST(cuda_tiles_of_few_channels_change_no_gradient_but_by_rounding) {
  std::mt19937 random(17000);
  const Problem p = large_problem(random, 12, false);
  const std::vector<float> dy = random_deltas(random, p.blocking.geometry);
  ::setenv("REUSE_CUDA_TABLE_MIB", "1", 1);
  expect_cpus_step(p, dy, BlockOrder::kForwards, 0);
  ::unsetenv("REUSE_CUDA_TABLE_MIB");
}

}  // namespace
}  // namespace reuse::testing
