// Codes of family learned, prepared for whole layers, against a walk from node to node.
#include <cmath>
#include <limits>
#include <memory>

#include "support.h"
#include "test.h"

namespace reuse::testing {
namespace {

constexpr int64_t kBlocks = 2;

struct Trees {
  int64_t length, depth;
  std::vector<float> rotations, thresholds;
  std::vector<int32_t> coordinates;

  int64_t nodes() const { return (int64_t{1} << depth) - 1; }
  std::unique_ptr<Encoder> encoder(Allocator& allocator) const {
    const auto size = [](const auto& values) { return static_cast<int64_t>(values.size()); };
    const float* rotation = rotations.empty() ? nullptr : rotations.data();
    return make_encoder(allocator, {&find_hash_family("learned"), depth}, kBlocks, length,
                        {rotation, thresholds.data(), coordinates.data()},
                        {rotations.empty() ? -1 : size(rotations), size(thresholds), size(coordinates)});
  }

  // docs/operators.md, Hash: products are summed one by one, comparisons with a NaN fail, short vectors end in zeros.
  int64_t code(int64_t block, const std::vector<float>& vector) const {
    std::vector<float> turned(static_cast<size_t>(length), 0.0f);
    for (size_t i = 0; i < turned.size(); ++i) {
      if (rotations.empty()) turned[i] = i < vector.size() ? vector[i] : 0.0f;
      for (size_t l = 0; !rotations.empty() && l < vector.size(); ++l) {
        turned[i] += vector[l] * rotations[(static_cast<size_t>(block * length) + l) * turned.size() + i];
      }
    }
    int64_t node = 0;
    for (int64_t d = 0; d < depth; ++d) {
      const size_t at = static_cast<size_t>(block * nodes() + node);
      node = 2 * node + 1 + (turned[static_cast<size_t>(coordinates[at])] > thresholds[at] ? 1 : 0);
    }
    return node - nodes();
  }
};

Trees random_trees(std::mt19937& random, int64_t length, int64_t depth, bool rotated) {
  std::normal_distribution<float> normal;
  Trees trees{length, depth, {}, {}, {}};
  for (int64_t i = 0; rotated && i < kBlocks * length * length; ++i) trees.rotations.push_back(normal(random));
  for (int64_t i = 0; i < kBlocks * trees.nodes(); ++i) {
    trees.thresholds.push_back(normal(random));
    trees.coordinates.push_back(std::uniform_int_distribution<int32_t>(0, static_cast<int32_t>(length - 1))(random));
  }
  return trees;
}

// Vectors whose values meet thresholds' neighbourhood, some of them not finite.
std::vector<std::vector<float>> random_vectors(std::mt19937& random, int64_t count, int64_t length) {
  std::normal_distribution<float> normal;
  std::vector<std::vector<float>> vectors(static_cast<size_t>(count), std::vector<float>(static_cast<size_t>(length)));
  for (std::vector<float>& vector : vectors) {
    for (float& value : vector) value = normal(random);
  }
  vectors[vectors.size() / 2][0] = std::numeric_limits<float>::quiet_NaN();
  vectors[vectors.size() / 3].back() = -std::numeric_limits<float>::infinity();
  return vectors;
}

// Codes of vectors given as a tile, or as rows that end in zeros; none where the encoder takes no rows.
std::vector<int64_t> codes_of_tile(Allocator& allocator, const Encoder& encoder, int64_t block,
                                   const std::vector<std::vector<float>>& vectors) {
  const int64_t own = static_cast<int64_t>(vectors[0].size()), count = static_cast<int64_t>(vectors.size());
  Buffer<float> values(allocator, static_cast<size_t>(own * kTileVectors));
  Buffer<float> scratch(allocator, static_cast<size_t>(encoder.scratch_floats()));
  EXPECT(values.data() != nullptr);
  for (int64_t i = 0; i < own * count; ++i) {
    values[static_cast<size_t>(i / count * kTileVectors + i % count)] =
        vectors[static_cast<size_t>(i % count)][static_cast<size_t>(i / count)];
  }
  std::vector<int64_t> codes(kTileVectors);
  encoder.codes({values.data(), kTileVectors, own, count}, block, scratch.data(), codes.data());
  codes.resize(vectors.size());
  return codes;
}

std::vector<int64_t> codes_of_rows(const Encoder& encoder, int64_t block, int64_t length,
                                   const std::vector<std::vector<float>>& vectors) {
  if (encoder.by_rows() == nullptr) return {};
  const int64_t stride = (length + 15) / 16 * 16, count = static_cast<int64_t>(vectors.size());
  std::vector<float> rows(static_cast<size_t>(count * stride));
  for (size_t p = 0; p < vectors.size(); ++p) {
    std::copy(vectors[p].begin(), vectors[p].end(), rows.begin() + static_cast<int64_t>(p) * stride);
  }
  std::vector<int64_t> codes(vectors.size());
  encoder.by_rows()->codes({rows.data(), stride, stride, count}, block, codes.data());
  return codes;
}

TEST(prepared_trees_give_the_codes_of_a_walk) {
  std::mt19937 random(1);
  for (const int64_t length : {1, 3, 4, 8, 15, 16, 17, 31, 32, 33}) {
    for (int64_t depth = 1; depth <= 13; ++depth) {
      for (const bool rotated : {false, true}) {
        PoisonedAllocator allocator;
        const Trees trees = random_trees(random, length, depth, rotated);
        const std::unique_ptr<Encoder> encoder = trees.encoder(allocator);
        // The last block may be shorter, and the last tile not full.
        const int64_t own = depth % 2 == 0 ? length : (length + 1) / 2, count = depth % 3 == 0 ? kTileVectors : 37;
        const std::vector<std::vector<float>> vectors = random_vectors(random, count, own);
        for (int64_t block = 0; block < kBlocks; ++block) {
          std::vector<int64_t> expected;
          expected.reserve(vectors.size());
          for (const std::vector<float>& vector : vectors) expected.push_back(trees.code(block, vector));
          EXPECT(codes_of_tile(allocator, *encoder, block, vectors) == expected,
                 << "L " << length << ", H " << depth << ", rotated " << rotated);
          EXPECT(rotated == codes_of_rows(*encoder, block, length, vectors).empty());
          EXPECT(rotated || codes_of_rows(*encoder, block, length, vectors) == expected,
                 << "rows, L " << length << ", H " << depth);
        }
      }
    }
  }
}

TEST(coordinates_outside_a_vector_are_refused_once) {
  std::mt19937 random(1);
  PoisonedAllocator allocator;
  Trees trees = random_trees(random, 4, 3, false);
  trees.coordinates.back() = 4;
  expect_throw<std::invalid_argument>("coordinates hold 4, must be 0 to 3", [&] { trees.encoder(allocator); });
  trees.coordinates.back() = -1;
  expect_throw<std::invalid_argument>("coordinates hold -1", [&] { trees.encoder(allocator); });
  EXPECT(allocator.held() == 0);
}

}  // namespace
}  // namespace reuse::testing
