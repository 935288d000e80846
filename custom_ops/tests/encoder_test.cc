// Codes of family learned, prepared for whole layers, against a walk from node to node.
#include <cmath>
#include <limits>
#include <memory>

#include "../cpu/simd/kernels.h"
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
          const std::vector<int64_t> by_rows = codes_of_rows(*encoder, block, length, vectors);
          EXPECT(by_rows.empty() || (!rotated && by_rows == expected), << "rows, L " << length << ", H " << depth);
        }
      }
    }
  }
}

// Trees whose thresholds are multiples of a power of two by coordinate, spread as widely as bytes allow; some nodes
// send nothing right, or everything but NaNs.
Trees grid_trees(std::mt19937& random, int64_t length, int64_t depth, bool rotated) {
  const auto draw = [&random](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
  Trees trees = random_trees(random, length, depth, false);
  const int extreme[] = {-100, -3, 0, 7, 100};
  for (int64_t block = 0; block < kBlocks; ++block) {
    for (int64_t c = 0; c < length; ++c) {
      const int exponent = draw(0, 3) == 0 ? extreme[draw(0, 4)] : draw(-12, 2);
      const int base = draw(0, 3) == 0 ? draw(-4194304, 4194050) : draw(-254, 0);
      for (int64_t node = 0; node < trees.nodes(); ++node) {
        const size_t at = static_cast<size_t>(block * trees.nodes() + node);
        if (trees.coordinates[at] != c) continue;
        const int k = draw(0, 9) == 0 ? 254 * draw(0, 1) : draw(0, 254);
        trees.thresholds[at] = std::ldexp(static_cast<float>(base + k), exponent);
        if (draw(0, 15) == 0) trees.thresholds[at] = std::numeric_limits<float>::infinity();
        if (draw(0, 63) == 0) trees.thresholds[at] = std::numeric_limits<float>::quiet_NaN();
      }
    }
    // Axes in another order, so that values stay where they meet thresholds, with a little of each other.
    for (int64_t i = 0; rotated && i < length * length; ++i) {
      const bool on_axis = (i / length + i % length) % length == 0;
      trees.rotations.push_back(on_axis ? 1.0f : draw(0, 1) == 0 ? 0.0f : std::ldexp(1.0f, draw(-40, -1)));
    }
  }
  return trees;
}

// Vectors at the thresholds and beside them, and with everything else that a float can be.
std::vector<std::vector<float>> vectors_at_thresholds(std::mt19937& random, const Trees& trees, int64_t count,
                                                      int64_t length, bool finite) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kSmallest = std::numeric_limits<float>::denorm_min(), kLargest = std::numeric_limits<float>::max();
  const float special[] = {0.0f,      -0.0f,      kSmallest,    -kSmallest, 1e-39f,
                           kLargest,  -kLargest,  3e7f,         -3e7f,      0.5f * std::numeric_limits<float>::min(),
                           kInfinity, -kInfinity, std::nanf("")};
  std::vector<std::vector<float>> vectors(static_cast<size_t>(count), std::vector<float>(static_cast<size_t>(length)));
  for (std::vector<float>& vector : vectors) {
    for (float& value : vector) {
      value = special[random() % (finite ? 10 : 13)];
      const float threshold = trees.thresholds[random() % trees.thresholds.size()];
      const auto kind = random() % 5;
      if (kind == 0 || !std::isfinite(threshold)) continue;
      value = kind == 1   ? std::nextafter(threshold, -kInfinity)
              : kind == 2 ? std::nextafter(threshold, kInfinity)
              : kind == 3 ? threshold
                          : threshold * (1.0f + std::ldexp(static_cast<float>(random() % 1024), -12));
      if (!std::isfinite(value)) value = 1.0f;
    }
  }
  return vectors;
}

// Narrow codes as wide ones. What lies behind them must stay as it is.
template <typename Code>
std::vector<int64_t> narrow_codes_of(Allocator& allocator, const Encoder& encoder, int64_t block,
                                     const std::vector<std::vector<float>>& vectors, bool& finite) {
  const int64_t own = static_cast<int64_t>(vectors[0].size()), count = static_cast<int64_t>(vectors.size());
  Buffer<float> values(allocator, static_cast<size_t>(own * kTileVectors));
  Buffer<float> scratch(allocator, static_cast<size_t>(encoder.scratch_floats()));
  for (int64_t i = 0; i < own * count; ++i) {
    values[static_cast<size_t>(i / count * kTileVectors + i % count)] =
        vectors[static_cast<size_t>(i % count)][static_cast<size_t>(i / count)];
  }
  std::vector<Code> codes(kTileVectors, static_cast<Code>(0xABAB));
  finite = encoder.narrow_codes({values.data(), kTileVectors, own, count}, block, scratch.data(), codes.data());
  for (size_t p = vectors.size(); p < codes.size(); ++p) EXPECT(codes[p] == static_cast<Code>(0xABAB));
  return {codes.begin(), codes.begin() + count};
}

TEST(trees_on_a_grid_give_the_codes_of_a_walk) {
  std::mt19937 random(2);
  for (int64_t length = 1; length <= 34; ++length) {
    for (const int64_t depth : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13}) {
      const bool rotated = random() % 2 == 0, finite = random() % 2 == 0;
      PoisonedAllocator allocator;
      const Trees trees = grid_trees(random, length, depth, rotated);
      const std::unique_ptr<Encoder> encoder = trees.encoder(allocator);
      // Rows are no faster where bytes are walked by, which so is what is tested here; elements of 33 or more are no
      // rows.
      const bool by_bytes = simd::kernels().byte_leaves != nullptr && length <= simd::kMostByteRows;
      EXPECT(!by_bytes || encoder->by_rows() == nullptr, << "L " << length << ", H " << depth);
      const int64_t own = random() % 2 == 0 ? length : (length + 1) / 2;
      const int64_t count = random() % 3 == 0 ? kTileVectors : 1 + static_cast<int64_t>(random() % kTileVectors);
      std::vector<std::vector<float>> vectors = vectors_at_thresholds(random, trees, count, own, finite);
      if (!finite) vectors[random() % vectors.size()][random() % vectors[0].size()] = std::nanf("");
      for (int64_t block = 0; block < kBlocks; ++block) {
        std::vector<int64_t> expected;
        expected.reserve(vectors.size());
        for (const std::vector<float>& vector : vectors) expected.push_back(trees.code(block, vector));
        const auto agrees = [&](const char* what, const std::vector<int64_t>& codes) {
          EXPECT(codes == expected, << what << ", L " << length << ", H " << depth << ", rotated " << rotated);
        };
        agrees("tile", codes_of_tile(allocator, *encoder, block, vectors));
        bool found = !finite;
        agrees("16 bits", narrow_codes_of<uint16_t>(allocator, *encoder, block, vectors, found));
        EXPECT(found == finite);
        if (depth <= 8) {
          found = !finite;
          agrees("bytes", narrow_codes_of<uint8_t>(allocator, *encoder, block, vectors, found));
          EXPECT(found == finite);
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
