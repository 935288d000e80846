// Plans, and the memory of runs.
#include <stdexcept>
#include <vector>

#include "reuse/arena.h"
#include "support.h"
#include "test.h"

namespace reuse::testing {
namespace {

std::vector<float> run(const ReusePlan& plan, const Problem& p, int64_t* peak = nullptr) {
  const ConvGeometry& g = p.blocking.geometry;
  PoisonedAllocator allocator;
  Threads parallel(2);
  std::vector<float> y = poisoned<float>(g.rows() * g.out_channels);
  {
    Workspace workspace(allocator, parallel);
    reuse_conv(plan, nullptr, plan.blocking(g.batch, g.in_h, g.in_w), workspace, p.x.data(), y.data());
    if (peak != nullptr) *peak = workspace.peak_bytes();
  }
  EXPECT(allocator.held() == 0);
  return y;
}

TEST(a_plan_refers_to_nothing_of_its_operands) {
  for (const char* family : {"sign", "learned"}) {
    std::mt19937 random(3);
    Problem p = channel_problem(random, family, 8);
    PoisonedAllocator allocator;
    const ReusePlan plan = p.plan(allocator);
    const std::vector<float> expected = run(plan, p);
    for (std::vector<float>* operand : {&p.w, &p.bias, &p.projections, &p.thresholds}) {
      std::fill(operand->begin(), operand->end(), 1e30f);
    }
    std::fill(p.coordinates.begin(), p.coordinates.end(), 1 << 30);
    EXPECT(run(plan, p) == expected, << family);
  }
}

TEST(copies_of_a_plan_are_completed_by_themselves) {
  std::mt19937 random(4);
  Problem p = channel_problem(random, "learned", 8);
  PoisonedAllocator allocator;
  const ConvGeometry& g = p.blocking.geometry;
  const std::vector<float> expected = run(p.plan(allocator), p);
  ReusePlan constant({g.attributes, p.hash, p.cluster, p.gather, p.table});
  constant.set_weights(allocator, g.in_channels, g.out_channels, p.w.data());
  for (int round = 0; round < 2; ++round) {
    ReusePlan own = constant;
    own.set_bias(p.bias.data(), static_cast<int64_t>(p.bias.size()));
    EXPECT(!own.is_complete());
    own.set_hash(allocator, p.parameters(), p.sizes());
    EXPECT(own.is_complete() && !constant.is_complete() && &own.weights() == &constant.weights());
    EXPECT(run(own, p) == expected);
  }
}

TEST(a_plan_refuses_operands_that_do_not_fit) {
  std::mt19937 random(5);
  Problem p = channel_problem(random, "sign", 8);
  PoisonedAllocator allocator;
  const ConvGeometry& g = p.blocking.geometry;
  ReusePlan plan({g.attributes, p.hash, p.cluster, p.gather, p.table});
  expect_throw<std::invalid_argument>("only 4 channels", [&] { plan.set_weights(allocator, 4, 40, p.w.data()); });
  plan.set_weights(allocator, g.in_channels, g.out_channels, p.w.data());
  expect_throw<std::invalid_argument>("bias has 3 elements, needs 40", [&] { plan.set_bias(p.bias.data(), 3); });
  p.projections.pop_back();
  expect_throw<std::invalid_argument>("projections has", [&] { plan.set_hash(allocator, p.parameters(), p.sizes()); });
  EXPECT(!plan.has_bias() && !plan.has_hash());
}

struct TwoArrays {
  TwoArrays(Arena& arena, int64_t bytes, int64_t floats)
      : first(arena.take<char>(bytes)), second(arena.take<float>(floats)) {}
  char* first;
  float* second;
};

TEST(arrays_are_placed_where_they_were_counted) {
  PoisonedAllocator allocator;
  for (const int64_t bytes : {0, 1, 64, 257}) {
    for (const int64_t floats : {0, 3, 100}) {
      const Placed<TwoArrays> arrays(allocator, bytes, floats);
      const char* end = reinterpret_cast<const char*>(arrays->second + floats);
      EXPECT(arrays->first + bytes <= reinterpret_cast<const char*>(arrays->second));
      EXPECT(end - arrays->first <= allocator.held(), << bytes << " bytes and " << floats << " floats");
    }
  }
  EXPECT(allocator.held() == 0);
}

TEST(a_workspace_counts_what_is_held_at_once) {
  PoisonedAllocator allocator;
  Threads parallel(1);
  Workspace workspace(allocator, parallel);
  for (int round = 0; round < 2; ++round) {
    const Buffer<char> kept(workspace, 100);
    {
      const Buffer<char> passing(workspace, 50);
    }
    {
      const Buffer<char> passing(workspace, 70);
    }
  }
  EXPECT(workspace.peak_bytes() == 170 && allocator.held() == 0);
  std::mt19937 random(6);
  Problem p = channel_problem(random, "exact", 8);
  int64_t peak = 0;
  run(p.plan(allocator), p, &peak);
  EXPECT(peak >= static_cast<int64_t>(sizeof(int32_t)) * p.blocking.num_blocks() * p.blocking.vectors, << peak);
}

// Vectors of layout patch without any reuse, whose centroids take nine times the input: blocks that go through in
// ranges against all of them at once, with and without groups that a range ends within.
TEST(blocks_in_ranges_change_no_bit_and_take_less_memory) {
  for (const char* family : {"exact", "sign"}) {
    for (const int64_t group : {1, 3}) {
      ConvAttributes a;
      a.layout = Layout::kPatch;
      a.kernel_h = a.kernel_w = 3;
      a.pad_top = a.pad_left = a.pad_bottom = a.pad_right = 1;
      a.group = group;
      a.sub_vector_length = 10;
      std::mt19937 random(9);
      std::normal_distribution<float> normal;
      Problem p;
      p.blocking = Blocking::make(ConvGeometry::make(a, 1, 48, 60, 62, 24 * group));
      p.hash = {&find_hash_family(family), 40};
      p.cluster.verify = p.hash.family->is_lossless();
      p.gather.activation = Activation::kRelu;
      for (int64_t i = 0; i < 48 * 60 * 62; ++i) p.x.push_back(normal(random));
      for (int64_t i = 0; i < 24 * 48 * 9; ++i) p.w.push_back(normal(random));
      for (int64_t i = 0; i < 24 * group; ++i) p.bias.push_back(normal(random));
      draw_parameters(random, p);
      PoisonedAllocator allocator;
      Threads parallel(2);
      const ReusePlan plan = p.plan(allocator);
      std::vector<float> expected = poisoned<float>(24 * group * 60 * 62);
      Workspace workspace(allocator, parallel);
      multiply_and_gather(workspace, p.blocking, p.gather, plan.weights(),
                          hash_and_cluster(workspace, p.blocking, plan.encoder(), p.cluster, p.x.data()), plan.bias(),
                          expected.data());
      int64_t peak = 0;
      const std::vector<float> actual = run(plan, p, &peak);
      EXPECT(actual == expected, << family << ", group " << group);
      EXPECT(peak < workspace.peak_bytes() * 3 / 4, << peak << " bytes, of " << workspace.peak_bytes());
    }
  }
}

}  // namespace
}  // namespace reuse::testing
