// The one pass over windows against hashing, numbering and averaging one after the other; and the way of table rows
// that are outputs as they are.
#include "../cpu/window_clusters.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "support.h"
#include "test.h"

namespace reuse::testing {
namespace {

int64_t draw(std::mt19937& random, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random);
}

// Windows of few values, so that they repeat, some of which are not finite; trees of up to three levels of subtrees.
Problem windows(unsigned seed, const char* family) {
  std::mt19937 random(seed);
  ConvAttributes a;
  a.layout = Layout::kPatch;
  a.kernel_h = draw(random, 1, 5);
  a.kernel_w = draw(random, 1, 5);
  a.stride_h = draw(random, 1, 3);
  a.stride_w = draw(random, 1, 3);
  a.dilation_h = draw(random, 1, 2);
  a.dilation_w = draw(random, 1, 2);
  a.pad_top = draw(random, 0, 9);
  a.pad_left = draw(random, 0, 9);
  a.pad_bottom = draw(random, 0, 3);
  a.pad_right = draw(random, 0, 3);
  a.group = draw(random, 1, 2);
  const int64_t channels = draw(random, 1, 5), columns = channels * a.kernel_h * a.kernel_w;
  a.sub_vector_length = draw(random, 1, std::min<int64_t>(64, columns));
  Problem p;
  p.blocking = Blocking::make(ConvGeometry::make(a, draw(random, 1, 2), channels * a.group, draw(random, 10, 50),
                                                 draw(random, 10, 50), a.group));
  p.hash = {&find_hash_family(family), draw(random, 1, 10)};
  p.cluster.scope = draw(random, 0, 1) == 0 ? Scope::kImage : Scope::kBatch;
  p.cluster.capacity = draw(random, 0, 1) == 0 ? 1.0f : 0.02f;
  std::normal_distribution<float> normal;
  const ConvGeometry& g = p.blocking.geometry;
  for (int64_t i = 0; i < g.batch * g.in_channels * g.in_pixels(); ++i) {
    p.x.push_back(static_cast<float>(std::lround(2.0f * normal(random))) / 3.0f);
  }
  if (seed % 3 == 0) p.x[p.x.size() / 2] = std::numeric_limits<float>::quiet_NaN();
  if (seed % 3 == 0) p.x[p.x.size() / 3] = std::numeric_limits<float>::infinity();
  draw_parameters(random, p);
  return p;
}

TEST(one_pass_finds_the_clusters_of_the_staged_form_to_the_bit) {
  int64_t shared = 0;
  for (unsigned seed = 0; seed < 160; ++seed) {
    const Problem p = windows(seed, family_of(seed));
    EXPECT(windows_in_one_pass(p.blocking, p.cluster));
    PoisonedAllocator allocator;
    Threads parallel(2);
    Workspace workspace(allocator, parallel);
    std::vector<int64_t> codes = poisoned<int64_t>(p.blocking.num_blocks() * p.blocking.vectors);
    hash(workspace, p.blocking, *p.encoder(allocator), p.x.data(), codes.data());
    const Clusters staged = cluster(workspace, p.blocking, p.cluster, p.x.data(), codes.data());
    const Clusters fused = hash_and_cluster(workspace, p.blocking, *p.encoder(workspace), p.cluster, p.x.data());
    EXPECT(std::memcmp(fused.ids.data(), staged.ids.data(), codes.size() * sizeof(int32_t)) == 0, << "seed " << seed);
    for (size_t b = 0; b < staged.blocks.size(); ++b) {
      const BlockClusters &actual = fused.blocks[b], &expected = staged.blocks[b];
      EXPECT(actual.count == expected.count && actual.guarded == expected.guarded, << "seed " << seed);
      const size_t floats = static_cast<size_t>(expected.count * p.blocking.sub_vector_length());
      for (size_t i = 0; i < floats; ++i) {
        const float value = actual.centroids[i], wanted = expected.centroids[i];
        EXPECT(value == wanted || (std::isnan(value) && std::isnan(wanted)),
               << "centroid element " << i << " is " << value << ", expected " << wanted << ", seed " << seed);
      }
      shared += p.blocking.vectors - expected.count;
    }
  }
  EXPECT(shared > 100000);
}

TEST(rows_of_one_block_are_copied_to_outputs_of_any_size) {
  const int64_t sizes[][2] = {{40, 60}, {8, 16}, {3, 5}};  // more and less than a task's pixels, whole lanes and not
  for (const Activation activation :
       {Activation::kNone, Activation::kRelu, Activation::kClip, Activation::kLeakyRelu}) {
    for (const auto& size : sizes) {
      for (const int64_t channels : {64, 83}) {
        ConvAttributes a;
        a.layout = Layout::kPatch;
        a.kernel_h = a.kernel_w = 3;
        a.pad_top = a.pad_left = a.pad_bottom = a.pad_right = 1;
        a.sub_vector_length = 18;
        Problem p;
        p.blocking = Blocking::make(ConvGeometry::make(a, 2, 2, size[0], size[1], channels));
        p.hash = {&find_hash_family("exact"), 1};
        p.cluster.verify = true;
        p.gather.activation = activation;
        if (activation == Activation::kClip) p.gather.activation_params = {0.0f, 6.0f};
        if (activation == Activation::kLeakyRelu) p.gather.activation_params = {0.1f};
        std::mt19937 random(1);
        for (int64_t i = 0; i < 4 * size[0] * size[1]; ++i) p.x.push_back(static_cast<float>(draw(random, -2, 2)));
        for (int64_t i = 0; i < 18 * channels; ++i) p.w.push_back(static_cast<float>(draw(random, -2, 2)));
        for (int64_t i = 0; i < channels; ++i) p.bias.push_back(static_cast<float>(draw(random, -2, 2)));
        const std::vector<float> expected = dense(p), actual = run_fused(p, 2);
        for (size_t i = 0; i < expected.size(); ++i) {
          EXPECT(std::fabs(actual[i] - expected[i]) <= 1e-4f,
                 << "at " << i << ": " << actual[i] << ", expected " << expected[i]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace reuse::testing
