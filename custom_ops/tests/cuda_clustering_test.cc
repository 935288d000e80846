// The ways in which the CUDA kernels cluster (cuda/clustering.h, PathLimits), on the host or on a GPU, against the
// CPU's: every problem in each of them, and what only one of them can get wrong.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <random>

#include "../cuda/pipeline.h"
#include "cuda_support.h"
#include "test.h"

namespace reuse::testing {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

CudaProblem on_path(const Problem& p, const cuda::PathLimits& limits) {
  CudaProblem own = cuda_problem(p);
  own.limits = limits;
  return own;
}

bool is_by_slot(const Problem& p) {
  const CudaProblem own = cuda_problem(p);
  return cuda::StrictFused<float>::plan(own.blocking, own.hash, own.cluster, kBySlot).by_slot;
}

// Y in the order of the problem, after a comparison with the CPU's result and counts.
std::vector<float> expect_cpus(const Problem& p, const cuda::PathLimits& limits, double tolerance, int seed,
                               CudaMode mode = CudaMode::kStrict) {
  RunStatistics expected, actual;
  const std::vector<float> cpu = run_fused(p, 1, &expected);
  const std::vector<float> own = run_cuda_fused(on_path(p, limits), mode, kOrders[seed % 3], actual);
  const ConvGeometry& g = p.blocking.geometry;
  const bool pixel_major = g.attributes.output_order == DataOrder::kNhwc;
  expect_near(pixel_major ? reordered(own, g.batch, g.out_pixels(), g.out_channels) : own, cpu, tolerance, "y", seed);
  EXPECT(actual.clusters == expected.clusters && actual.guarded == expected.guarded,
         << actual.clusters << " clusters, expected " << expected.clusters << "; " << actual.guarded
         << " guarded, expected " << expected.guarded << ", seed " << seed);
  return own;
}

// The same in numbers that float16 has: rounding them later could change codes.
Problem in_half(Problem p) {
  for (auto* values : {&p.x, &p.w, &p.bias}) *values = rounded_to_half(*values);
  return p;
}

// A problem whose sums can be kept by slot.
Problem slot_problem(std::mt19937& random, int64_t length, int64_t channels, int64_t num_hashes, int64_t batch) {
  return channel_problem(random, random() % 2 == 0 ? "sign" : "learned", length, channels, num_hashes, 9, batch);
}

// The same with pixels side by side that are alike, so that tiles have several members of a slot.
void repeat_pixels(Problem& p) {
  const ConvGeometry& g = p.blocking.geometry;
  for (size_t i = 1; i < p.x.size(); ++i) {
    if (static_cast<int64_t>(i) % g.in_pixels() % 3 != 0) p.x[i] = p.x[i - 1];
  }
}

TEST(cuda_paths_equal_cpu) {
  for (int seed = 0; seed < cases(); ++seed) {
    for (const cuda::PathLimits& limits : kPaths) {
      std::mt19937 random(static_cast<unsigned>(20000 + seed));
      expect_cpus(random_problem(random, family_of(seed)), limits, 1e-5, seed);
    }
  }
}

TEST(cuda_sums_by_slot_equal_cpu) {
  for (int seed = 0; seed < cases(); ++seed) {
    std::mt19937 random(static_cast<unsigned>(21000 + seed));
    Problem p = random_problem(random, seed % 2 == 0 ? "sign" : "learned");
    // At most as many bits as leave every code a slot: images are of one pixel or more.
    const int64_t length = p.blocking.sub_vector_length(), blocks = p.blocking.num_blocks();
    p.hash.num_hashes = std::min<int64_t>(p.hash.num_hashes, 1 + static_cast<int64_t>(random() % 4));
    p.cluster = {};
    p.cluster.scope = seed % 3 == 0 ? Scope::kImage : Scope::kBatch;
    if (p.hash.family == &find_hash_family("sign")) {
      p.projections.resize(static_cast<size_t>(blocks * length * p.hash.num_hashes));
      p.thresholds.resize(static_cast<size_t>(blocks * p.hash.num_hashes));
    } else {
      const size_t nodes = static_cast<size_t>(blocks * ((int64_t{1} << p.hash.num_hashes) - 1));
      p.coordinates.resize(nodes);
      p.thresholds.resize(nodes);
    }
    repeat_pixels(p);
    if (!is_by_slot(p)) continue;  // too few vectors for that many bits
    const std::vector<float> first = expect_cpus(p, kBySlot, 1e-5, seed);
    for (const BlockOrder order : kOrders) {
      RunStatistics statistics;
      EXPECT(run_cuda_fused(on_path(p, kBySlot), CudaMode::kStrict, order, statistics) == first, << "seed " << seed);
    }
    if (p.blocking.geometry.attributes.layout == Layout::kChannel) {
      p.blocking.geometry.attributes.input_order = DataOrder::kNhwc;
      EXPECT(expect_cpus(p, kBySlot, 1e-5, seed) == first, << "order of X, seed " << seed);
    }
    expect_cpus(p, kBySlot, 3e-3, seed, CudaMode::kTf32);
  }
}

// Tiles of every number of vectors, full and not, and vectors too long for one.
TEST(cuda_tiles_of_vectors_of_every_length_equal_cpu) {
  int seed = 0;
  for (const int64_t length : {1, 5, 8, 16, 33, 64, 100, 128, 200, 256, 300, 512, 600}) {
    std::mt19937 random(static_cast<unsigned>(22000 + length));
    Problem p = slot_problem(random, length, length, 3, 3);
    repeat_pixels(p);
    EXPECT(is_by_slot(p) == (length <= 512), << length);
    for (const DataOrder order : {DataOrder::kNchw, DataOrder::kNhwc}) {
      p.blocking.geometry.attributes.input_order = order;
      for (const cuda::PathLimits& limits : kPaths) expect_cpus(p, limits, 1e-5, ++seed);
    }
    expect_cpus(in_half(p), kBySlot, 3e-3, seed, CudaMode::kHalf);
    p.cluster.metric = Metric::kAngular;
    for (const cuda::PathLimits& limits : {kUsual, kLarge}) expect_cpus(p, limits, 1e-5, ++seed);
  }
}

// The first number of vectors that one group does not number, the last that it does, and units whose slots are too
// many for it. Many clusters, of which some are guarded.
TEST(cuda_small_and_large_numbering_meet) {
  struct Size {
    int64_t batch, height, width;
    Scope scope;
    bool is_small;
  };
  const Size sizes[] = {{1, 64, 64, Scope::kBatch, true},
                        {1, 17, 241, Scope::kBatch, false},
                        {4, 32, 32, Scope::kImage, true},
                        {3, 35, 39, Scope::kImage, false}};
  int seed = 0;
  for (const Size& size : sizes) {
    for (const float capacity : {1.0f, 0.1f}) {
      std::mt19937 random(static_cast<unsigned>(23000 + seed));
      Problem p = channel_problem(random, "sign", 6, 6, 12, 5);
      const ConvAttributes attributes = p.blocking.geometry.attributes;
      p.blocking = Blocking::make(ConvGeometry::make(attributes, size.batch, 6, size.height, size.width, 5));
      p.cluster.scope = size.scope;
      p.cluster.capacity = capacity;
      std::normal_distribution<float> normal;
      p.x.resize(static_cast<size_t>(size.batch * 6 * size.height * size.width));
      for (float& value : p.x) value = normal(random);
      p.x[p.x.size() / 2] = kInfinity;
      const CudaProblem own = cuda_problem(p);
      const auto plan = cuda::StrictFused<float>::plan(own.blocking, own.hash, own.cluster);
      EXPECT(plan.numbering.is_small == size.is_small && !plan.by_slot, << seed);
      expect_cpus(p, kUsual, 1e-5, seed++);
    }
  }
}

// Centroids of a block that take three groups, of which the last has few: 2,475 vectors, hardly any two alike.
TEST(cuda_means_of_many_clusters_are_put_together) {
  for (const Metric metric : {Metric::kEuclidean, Metric::kAngular}) {
    std::mt19937 random(25000);
    Problem p = channel_problem(random, "sign", 16, 16, 24, 9, 25);
    p.cluster.metric = metric;
    const CudaProblem own = cuda_problem(p);
    const auto plan = cuda::StrictFused<float>::plan(own.blocking, own.hash, own.cluster);
    EXPECT(plan.numbering.is_small && !plan.by_slot);
    RunStatistics statistics;
    run_fused(p, 1, &statistics);
    const int64_t rows = cuda::MeansKernel<float, float>::kRows;
    EXPECT(statistics.clusters > 2 * rows && statistics.clusters < 3 * rows, << statistics.clusters);
    expect_cpus(p, kUsual, 1e-5, 2);
  }
}

// 1,449 vectors in one block: a sample has 16 of every 90.
Problem sampled_problem() {
  std::mt19937 random(24000);
  Problem p = channel_problem(random, "learned", 16, 16, 3, 9);
  p.blocking = Blocking::make(ConvGeometry::make(p.blocking.geometry.attributes, 3, 16, 21, 23, 9));
  p.x.resize(3 * 16 * 21 * 23);
  std::normal_distribution<float> normal;
  for (float& value : p.x) value = normal(random);
  EXPECT(is_by_slot(p));
  return p;
}

// Sets all elements of vectors that the sample has, or of the others.
void set_vectors(Problem& p, bool sampled, const std::function<float(float)>& change) {
  const int64_t pixels = p.blocking.geometry.in_pixels(), channels = 16, vectors = p.blocking.vectors;
  std::vector<bool> is_sampled(static_cast<size_t>(vectors));
  for (int64_t i = 0; i < 256; ++i) is_sampled[static_cast<size_t>(vectors * (i / 16) / 16 + i % 16)] = true;
  for (int64_t v = 0; v < vectors; ++v) {
    if (is_sampled[static_cast<size_t>(v)] != sampled) continue;
    for (int64_t c = 0; c < channels; ++c) {
      float& value = p.x[static_cast<size_t>((v / pixels * channels + c) * pixels + v % pixels)];
      value = change(value);
    }
  }
}

// What is summed again has the other path's scale, so not a bit differs from it.
void expect_large_paths_bits(const Problem& p) {
  const std::vector<float> by_slot = expect_cpus(p, kBySlot, 1e-5, 2);
  RunStatistics statistics;
  EXPECT(run_cuda_fused(on_path(p, kLarge), CudaMode::kStrict, BlockOrder::kForwards, statistics) == by_slot);
}

TEST(cuda_sums_by_slot_do_not_depend_on_a_right_guess) {
  for (const float outlier : {1e4f, -1e20f}) {
    Problem p = sampled_problem();
    set_vectors(p, false, [&](float value) { return value * outlier; });
    expect_large_paths_bits(p);
  }
  // A single element that the sample lacks.
  Problem p = sampled_problem();
  p.x[50] = 1e30f;
  expect_large_paths_bits(p);
  // A sample of zeros says nothing.
  p = sampled_problem();
  set_vectors(p, true, [](float) { return 0.0f; });
  expect_large_paths_bits(p);
}

TEST(cuda_sums_by_slot_leave_room_above_the_sample) {
  for (const float factor : {1e-3f, 0.3f, 10.0f, 60.0f}) {
    Problem p = sampled_problem();
    set_vectors(p, false, [&](float value) { return value * factor; });
    expect_cpus(p, kBySlot, 1e-6, 2);
  }
}

TEST(cuda_sums_by_slot_ignore_what_is_not_finite) {
  for (const float bad : {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
    for (const bool sampled : {true, false}) {
      Problem p = sampled_problem();
      int i = 0;
      set_vectors(p, sampled, [&](float value) { return ++i % 37 == 0 ? bad : value; });
      expect_cpus(p, kBySlot, 1e-5, 2);
      expect_cpus(p, kBySlot, 5e-3, 2, CudaMode::kTf32);
      expect_cpus(in_half(p), kBySlot, 5e-3, 2, CudaMode::kHalf);
    }
  }
}

TEST(cuda_sums_by_slot_of_zeros_are_zero) {
  for (const CudaMode mode : {CudaMode::kStrict, CudaMode::kHalf}) {
    Problem p = sampled_problem();
    std::fill(p.x.begin(), p.x.end(), 0.0f);
    p.bias.clear();
    for (const float value : expect_cpus(p, kBySlot, 0.0, 0, mode)) EXPECT(value == 0.0f);
  }
}

// What cancels leaves what is 2^30 times smaller, to what a table in float16 rounds it.
TEST(cuda_sums_by_slot_of_half_are_exact) {
  constexpr float kLeast = 5.9604644775390625e-8f;  // 2^-24
  Problem p = sampled_problem();
  const size_t image = 16 * 21 * 23;
  p.w.assign(p.w.size(), 0.0f);
  for (size_t m = 0; m < 9; ++m) p.w[(m * 16 + m) * 9 + 4] = 1.0f;  // Y is X
  p.bias.clear();
  p.thresholds.assign(p.thresholds.size(), kInfinity);  // one cluster
  std::fill_n(p.x.begin(), image, 65504.0f);
  std::fill_n(p.x.begin() + image, image, -65504.0f);
  std::fill_n(p.x.begin() + 2 * image, image, 3 * 512 * kLeast);
  RunStatistics statistics;
  const std::vector<float> y = run_cuda_fused(on_path(p, kBySlot), CudaMode::kHalf, BlockOrder::kShuffled, statistics);
  for (const float value : y) EXPECT(std::fabs(value - 512 * kLeast) <= 4 * kLeast, << value);
}

// Results do not depend on the sample, times do: it has vectors from the first to the last sixteenth of a block.
TEST(cuda_scales_are_guessed_from_all_over_a_block) {
  Problem p = sampled_problem();
  const cuda::Shape shape = cuda::make_shape(p.blocking);
  for (const int32_t sampled : {0, 543 + 15, 1358 + 15, 50}) {
    std::fill(p.x.begin(), p.x.end(), 0.0f);
    const int32_t pixels = shape.in_pixels(), image = sampled / pixels;
    const int32_t at = (image * 16 + 7) * pixels + sampled % pixels;
    p.x[static_cast<size_t>(at)] = -3.0f;
    std::vector<int64_t> elements(8 * 16, -1);
    std::vector<int32_t> members(8, -1), exponents(1);
    const cuda::PrepareSlotsKernel<float> prepare{
        shape, p.x.data(), {8, 16, elements.data(), members.data(), nullptr}, exponents.data()};
    cuda::HostLauncher(BlockOrder::kShuffled).launch(prepare, prepare.blocks());
    EXPECT(exponents[0] == (sampled == 50 ? cuda::exponent_above(0.0f) : 2) + cuda::kSampleHeadroom, << sampled);
    EXPECT(elements == std::vector<int64_t>(8 * 16) && members == std::vector<int32_t>(8));
  }
}

TEST(cuda_scales_of_half_are_guessed_where_sums_would_not_be_exact) {
  for (const int64_t height : {2048, 2049}) {
    ConvAttributes a;
    a.kernel_h = a.kernel_w = a.sub_vector_length = 1;
    const cuda::Shape shape = cuda::make_shape(Blocking::make(ConvGeometry::make(a, 1, 1, height, 2048, 1)));
    const std::vector<cuda::Half> x(static_cast<size_t>(shape.vectors), cuda::to_half(0.25f));
    int64_t element;
    int32_t members, exponent;
    const cuda::PrepareSlotsKernel<cuda::Half> prepare{shape, x.data(), {1, 1, &element, &members, nullptr}, &exponent};
    cuda::HostLauncher(BlockOrder::kForwards).launch(prepare, prepare.blocks());
    EXPECT(exponent == (height == 2048 ? 16 : -1 + cuda::kSampleHeadroom), << exponent);
  }
}

// Counts launches by stage, and runs nothing.
class CountingLauncher {
 public:
  template <typename Kernel>
  void launch(const Kernel&, int64_t blocks) {
    if (blocks > 0) ++counts_[static_cast<size_t>(stage_)];
  }
  void begin_stage(cuda::Stage stage) { stage_ = stage; }
  void end_stages() {}
  int64_t multiprocessors() const { return 132; }

  // Before the first table.
  int clustering() const { return counts_[0] + counts_[1]; }

 private:
  cuda::Stage stage_ = cuda::Stage::kHash;
  int counts_[4] = {};
};

template <typename Run>
int clustering_launches(int64_t batch, const char* family, int64_t num_hashes, float capacity = 1.0f) {
  ConvAttributes a;
  a.kernel_h = a.kernel_w = 3;
  a.pad_top = a.pad_left = a.pad_bottom = a.pad_right = 1;
  a.sub_vector_length = 256;
  const Blocking blocking = Blocking::make(ConvGeometry::make(a, batch, 256, 56, 56, 256));
  const cuda::HashOperands hash = cuda::make_hash({&find_hash_family(family), num_hashes}, {nullptr, nullptr, nullptr});
  ClusterAttributes cluster;
  cluster.verify = std::string(family) == "exact";
  cluster.capacity = capacity;
  CountingLauncher launcher;
  using T = typename Run::Packed;
  int64_t statistics[3];
  Run(Run::plan(blocking, hash, cluster))
      .run(launcher, cuda::FusedOperands<T>{nullptr, nullptr, hash, {}, nullptr, statistics}, {nullptr, nullptr},
           nullptr);
  return launcher.clustering();
}

// docs/performance.md says what they are.
TEST(cuda_clusters_in_few_launches) {
  using Float = cuda::TensorFused<float>;
  EXPECT(clustering_launches<Float>(1, "learned", 13) == 3);
  EXPECT(clustering_launches<Float>(1, "sign", 40, 0.1f) == 3);
  EXPECT(clustering_launches<Float>(1, "exact", 1) == 3);
  EXPECT(clustering_launches<Float>(128, "learned", 13) == 5);
  EXPECT(clustering_launches<cuda::TensorFused<cuda::Half>>(128, "learned", 13) == 4);
  EXPECT(clustering_launches<Float>(4, "learned", 13) == 9);
  EXPECT(clustering_launches<Float>(128, "learned", 13, 0.01f) == 12);
}

}  // namespace
}  // namespace reuse::testing
