// Codes that a family has prepared for many tiles against those of single tiles.
#include <cmath>
#include <limits>
#include <memory>

#include "support.h"
#include "test.h"

namespace reuse::testing {
namespace {

struct Tree {
  int64_t length, depth;
  std::vector<float> rotation, thresholds;  // of two blocks
  std::vector<int32_t> coordinates;
};

Tree random_tree(std::mt19937& random, int64_t length, int64_t depth, bool rotated) {
  std::normal_distribution<float> normal;
  Tree tree{length, depth, {}, {}, {}};
  for (int64_t i = 0; rotated && i < 2 * length * length; ++i) tree.rotation.push_back(normal(random));
  for (int64_t i = 0; i < 2 * ((int64_t{1} << depth) - 1); ++i) {
    tree.thresholds.push_back(normal(random));
    tree.coordinates.push_back(std::uniform_int_distribution<int32_t>(0, static_cast<int32_t>(length - 1))(random));
  }
  return tree;
}

// Values that meet thresholds' neighbourhood, some of them not finite.
std::vector<float> random_tile(std::mt19937& random, int64_t length) {
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(length * kTileVectors));
  for (float& value : values) value = normal(random);
  values[values.size() / 2] = std::numeric_limits<float>::quiet_NaN();
  values[values.size() / 3] = -std::numeric_limits<float>::infinity();
  return values;
}

TEST(prepared_trees_give_the_same_codes) {
  const HashFamily& family = find_hash_family("learned");
  std::mt19937 random(1);
  int64_t prepared = 0;
  for (const int64_t length : {1, 3, 4, 8, 15, 16, 17, 31, 32, 33}) {
    for (int64_t depth = 1; depth <= 13; ++depth) {
      for (const bool rotated : {false, true}) {
        PoisonedAllocator allocator;
        const Tree tree = random_tree(random, length, depth, rotated);
        const HashParameters parameters{rotated ? tree.rotation.data() : nullptr, tree.thresholds.data(),
                                        tree.coordinates.data(), nullptr};
        const auto coder = family.tile_coder(allocator, 1, length, depth, parameters, int64_t{1} << depth);
        if (coder == nullptr) continue;
        ++prepared;
        // The last block may be shorter, and the last tile not full.
        const int64_t own = depth % 2 == 0 ? length : (length + 1) / 2, count = depth % 3 == 0 ? kTileVectors : 37;
        const std::vector<float> values = random_tile(random, own);
        const Tile tile{values.data(), kTileVectors, own, count};
        Buffer<float> scratch(allocator, static_cast<size_t>(family.scratch_floats(length, depth)));
        std::vector<int64_t> expected(kTileVectors), actual(kTileVectors);
        family.codes(tile, 1, length, depth, parameters, scratch.data(), expected.data());
        coder->codes(tile, scratch.data(), actual.data());
        EXPECT(std::equal(expected.begin(), expected.begin() + count, actual.begin()),
               << "L " << length << ", H " << depth << ", rotated " << rotated);
      }
    }
  }
  EXPECT(prepared == 0 || prepared == 9 * 13 * 2);  // none, or all up to L = 32
}

TEST(trees_are_not_prepared_for_few_vectors) {
  PoisonedAllocator allocator;
  std::mt19937 random(1);
  const Tree tree = random_tree(random, 4, 8, false);
  const HashParameters parameters{nullptr, tree.thresholds.data(), tree.coordinates.data(), nullptr};
  EXPECT(find_hash_family("learned").tile_coder(allocator, 0, 4, 8, parameters, 255) == nullptr);
}

}  // namespace
}  // namespace reuse::testing
