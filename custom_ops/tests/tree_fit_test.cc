// Fitted trees: they separate what is different, keep their limits, and never read beyond their input.
#include "reuse/tree_fit.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <set>
#include <stdexcept>
#include <vector>

#include "test.h"

namespace reuse::testing {
namespace {

struct Tree {
  int64_t length;
  TreeShape shape;
  std::vector<int32_t> coordinates;
  std::vector<float> thresholds;

  int64_t leaf(const float* vector) const {
    int64_t node = 0;
    for (int64_t level = 0; level < shape.depth; ++level) {
      node = 2 * node + 1 + (vector[coordinates[node]] > thresholds[node] ? 1 : 0);
    }
    return node;
  }
};

Tree fit(const std::vector<float>& vectors, const std::vector<float>& importance, const TreeShape& shape) {
  const size_t nodes = (size_t{1} << shape.depth) - 1;
  const auto length = static_cast<int64_t>(importance.size());
  Tree tree{length, shape, std::vector<int32_t>(nodes, -1), std::vector<float>(nodes, 0.0f)};
  fit_trees(vectors.data(), static_cast<int64_t>(vectors.size()) / length, length, importance.data(), &shape, 1,
            tree.coordinates.data(), tree.thresholds.data());
  return tree;
}

TEST(few_distinct_vectors_get_a_leaf_each) {
  for (int64_t length = 1; length < 9; ++length) {
    std::mt19937 random(static_cast<unsigned>(length));
    std::vector<float> palette(12 * length);
    for (float& value : palette) value = std::normal_distribution<float>()(random);
    std::vector<float> vectors;
    for (int copy = 0; copy < 100; ++copy) vectors.insert(vectors.end(), palette.begin(), palette.end());
    const Tree tree = fit(vectors, std::vector<float>(length, 1.0f), {11, 12});
    std::set<int64_t> leaves;
    for (int64_t i = 0; i < 12; ++i) leaves.insert(tree.leaf(palette.data() + i * length));
    EXPECT(leaves.size() == 12, << leaves.size() << " leaves at L=" << length);
  }
}

TEST(vectors_that_are_not_finite_take_no_part) {
  std::mt19937 random(3);
  std::vector<float> vectors(300 * 4), with_others;
  for (float& value : vectors) value = std::normal_distribution<float>()(random);
  for (size_t i = 0; i < vectors.size(); ++i) {
    if (i % 12 == 0) {
      for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
        with_others.insert(with_others.end(), {0.5f, bad, 1e30f, 0.0f});
      }
    }
    with_others.push_back(vectors[i]);
  }
  const std::vector<float> importance(4, 1.0f);
  const Tree expected = fit(vectors, importance, {7, 60}), tree = fit(with_others, importance, {7, 60});
  EXPECT(tree.coordinates == expected.coordinates && tree.thresholds == expected.thresholds);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT(fit({nan, 1, 1, 1, nan, 2, 2, 2}, importance, {1, 2}).coordinates[0] == 0);
}

TEST(leaves_are_as_many_as_asked_for_at_most) {
  std::mt19937 random(1);
  std::vector<float> vectors(5000 * 4);
  for (float& value : vectors) value = std::fmax(0.0f, std::normal_distribution<float>()(random));
  for (int64_t depth = 1; depth < 10; ++depth) {
    for (const int64_t wanted : {1, 2, 3, 17, 200}) {
      const Tree tree = fit(vectors, {1.0f, 1.0f, 1.0f, 1.0f}, {depth, wanted});
      std::set<int64_t> leaves;
      for (int64_t i = 0; i < 5000; ++i) leaves.insert(tree.leaf(vectors.data() + 4 * i));
      const int64_t found = static_cast<int64_t>(leaves.size()), most = std::min(wanted, int64_t{1} << depth);
      // Branches of equal vectors end before the depth is used up.
      EXPECT(found <= most && 10 * found >= 9 * most, << found << " leaves for " << wanted << " at depth " << depth);
      for (const int32_t coordinate : tree.coordinates) EXPECT(coordinate >= 0 && coordinate < 4);
    }
  }
}

TEST(an_important_coordinate_is_split_first) {
  std::mt19937 random(2);
  std::vector<float> vectors(1000 * 2);
  for (float& value : vectors) value = std::normal_distribution<float>()(random);
  EXPECT(fit(vectors, {1.0f, 9.0f}, {1, 2}).coordinates[0] == 1);
  EXPECT(fit(vectors, {9.0f, 1.0f}, {1, 2}).coordinates[0] == 0);
}

TEST(vectors_that_are_alike_or_absent_are_not_split) {
  const std::vector<float> ones(300, 1.0f), one(3, 2.0f), none;
  for (const std::vector<float>* vectors : {&ones, &one, &none}) {
    for (const float threshold : fit(*vectors, {1.0f, 1.0f, 1.0f}, {4, 16}).thresholds) EXPECT(std::isinf(threshold));
  }
}

TEST(thresholds_lie_halfway_between_values) {
  const std::vector<float> vectors{1.0f, 1.0f, 3.0f, 3.0f, 3.0f};
  EXPECT(fit(vectors, {1.0f}, {1, 2}).thresholds[0] == 2.0f);
  // Between neighbouring numbers there is no room: the lower one goes left, the higher one right.
  const float low = 1.0f, high = std::nextafter(low, 2.0f);
  const float threshold = fit({low, high}, {1.0f}, {1, 2}).thresholds[0];
  EXPECT(low <= threshold && threshold < high);
  // Nor may the middle of huge numbers overflow.
  const float large = std::numeric_limits<float>::max();
  EXPECT(fit({-large, large, 0.8f * large}, {1e-30f}, {2, 3}).thresholds[0] < large);
}

// How many steps of a power of two the thresholds of a coordinate span whose multiples they are.
double steps_spanned(const Tree& tree, int32_t coordinate) {
  double step = std::ldexp(1.0, 100), least = 1e30, most = -1e30;
  for (size_t node = 0; node < tree.thresholds.size(); ++node) {
    if (tree.coordinates[node] != coordinate || !std::isfinite(tree.thresholds[node])) continue;
    const double threshold = tree.thresholds[node];
    while (std::fmod(threshold, step) != 0.0) step /= 2.0;
    least = std::min(least, threshold);
    most = std::max(most, threshold);
  }
  return (most - least) / step;
}

TEST(thresholds_lie_on_a_grid_of_few_steps) {
  std::mt19937 random(4);
  for (const float scale : {1e-30f, 1e-3f, 1.0f, 5e4f}) {
    for (const float outlier : {0.0f, 1e5f}) {
      std::vector<float> vectors(3000 * 3);
      for (float& value : vectors) value = scale * std::exp(2.0f * std::normal_distribution<float>()(random));
      vectors[0] = vectors[1] = vectors[2] = outlier;
      const Tree tree = fit(vectors, {1.0f, 1.0f, 1.0f}, {10, 400});
      for (int32_t c = 0; c < 3; ++c)
        EXPECT(steps_spanned(tree, c) <= 254.0, << steps_spanned(tree, c) << " at " << scale);
    }
  }
}

TEST(trees_fitted_together_are_those_fitted_alone) {
  std::mt19937 random(3);
  std::vector<float> vectors(3000 * 5);
  for (float& value : vectors) value = std::normal_distribution<float>()(random);
  const std::vector<float> importance{1.0f, 2.0f, 0.5f, 1.0f, 0.0f};
  const TreeShape shapes[] = {{9, 128}, {4, 16}, {7, 20}};
  std::vector<int32_t> coordinates(511 + 15 + 127);
  std::vector<float> thresholds(coordinates.size());
  fit_trees(vectors.data(), 3000, 5, importance.data(), shapes, 3, coordinates.data(), thresholds.data());
  size_t start = 0;
  for (const TreeShape& shape : shapes) {
    const Tree alone = fit(vectors, importance, shape);
    EXPECT(std::equal(alone.coordinates.begin(), alone.coordinates.end(), coordinates.begin() + start));
    EXPECT(std::equal(alone.thresholds.begin(), alone.thresholds.end(), thresholds.begin() + start));
    start += alone.coordinates.size();
  }
}

TEST(sizes_that_make_no_sense_are_refused) {
  const std::vector<float> vectors(8, 1.0f);
  for (const TreeShape& shape : {TreeShape{0, 4}, TreeShape{17, 4}, TreeShape{4, 0}}) {
    bool refused = false;
    try {
      fit(vectors, {1.0f, 1.0f}, shape);
    } catch (const std::invalid_argument&) {
      refused = true;
    }
    EXPECT(refused);
  }
}

}  // namespace
}  // namespace reuse::testing
