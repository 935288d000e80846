// What has the same bits on every machine: digests that were taken with x86's baseline, and results without rounding.
//
// Data are drawn without the distributions of the standard library, whose rounding is no part of a promise.
#include <cmath>
#include <cstring>
#include <limits>

#include "../cpu/simd/kernels.h"
#include "reuse/tree_fit.h"
#include "support.h"
#include "test.h"

namespace reuse::testing {
namespace {

// FNV-1a.
class Digest {
 public:
  template <typename T>
  void add(const T* values, int64_t count) {
    const auto* bytes = reinterpret_cast<const unsigned char*>(values);
    for (size_t i = 0; i < static_cast<size_t>(count) * sizeof(T); ++i) value_ = (value_ ^ bytes[i]) * 0x100000001B3ull;
  }
  uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 0xCBF29CE484222325ull;
};

// Values from -2 to 2 that use all bits of a float's fraction, so that products and sums of them are rounded.
void draw_fractions(std::mt19937& random, std::vector<float>& values) {
  for (float& value : values) value = static_cast<float>(static_cast<int64_t>(random() >> 8) - (1 << 23)) * 0x1p-22f;
}

void draw_integers(std::mt19937& random, int64_t largest, std::vector<float>& values) {
  const auto count = static_cast<uint32_t>(2 * largest + 1);
  for (float& value : values) value = static_cast<float>(static_cast<int64_t>(random() % count) - largest);
}

// Two images, of which half of the second one's pixels are the first one's.
Problem fractions(std::mt19937& random, const char* family, Metric metric) {
  Problem p = channel_problem(random, family, 20);
  p.cluster.metric = metric;
  random.seed(5);
  for (std::vector<float>* values : {&p.x, &p.w, &p.bias, &p.projections, &p.thresholds}) {
    draw_fractions(random, *values);
  }
  for (int32_t& coordinate : p.coordinates) coordinate = static_cast<int32_t>(random() % 20);
  const size_t pixels = static_cast<size_t>(p.blocking.geometry.in_pixels());
  for (size_t i = 0; i < p.x.size() / 2; ++i) {
    if (i % pixels % 2 == 0) p.x[p.x.size() / 2 + i] = p.x[i];
  }
  return p;
}

TEST(codes_clusters_and_centroids_have_the_same_bits_on_every_machine) {
  struct Expected {
    const char* family;
    Metric metric;
    uint64_t digest;
  };
  for (const Expected& expected : {Expected{"sign", Metric::kEuclidean, 0xF18F6D988BCCFF24ull},
                                   {"sign", Metric::kAngular, 0x685CAD62903869DAull},
                                   {"learned", Metric::kEuclidean, 0x38E32A21E39E1ED6ull},
                                   {"learned", Metric::kAngular, 0x2C744C756F6BA473ull},
                                   {"exact", Metric::kEuclidean, 0x366E769268915B7Dull}}) {
    std::mt19937 random(5);
    const Problem p = fractions(random, expected.family, expected.metric);
    PoisonedAllocator allocator;
    Threads threads(2);
    Workspace workspace(allocator, threads);
    const int64_t codes_size = p.blocking.num_blocks() * p.blocking.vectors;
    std::vector<int64_t> codes = poisoned<int64_t>(codes_size);
    hash(workspace, p.blocking, *p.encoder(allocator), p.x.data(), codes.data());
    const Clusters clusters = cluster(workspace, p.blocking, p.cluster, p.x.data(), codes.data());
    Digest digest;
    digest.add(codes.data(), codes_size);
    digest.add(clusters.ids.data(), codes_size);
    for (const BlockClusters& block : clusters.blocks) {
      EXPECT(block.count > 1 && block.count < p.blocking.vectors);
      digest.add(block.centroids.data(), block.count * p.blocking.sub_vector_length());
    }
    EXPECT(digest.value() == expected.digest,
           << expected.family << ": the digest is " << std::hex << digest.value() << ", was " << expected.digest);
  }
}

TEST(static_layers_have_the_same_bits_on_every_machine) {
  struct Expected {
    TableType table;
    uint64_t digest;
  };
  for (const Expected& expected :
       {Expected{TableType::kFloat, 0x2E4BA3837D11E6F5ull}, {TableType::kInt8, 0xCADC603E2B137019ull}}) {
    std::mt19937 random(5);
    Problem p = fractions(random, "learned", Metric::kEuclidean);
    p.cluster.scope = Scope::kStatic;
    p.table = expected.table;
    p.centroids.resize(static_cast<size_t>((p.blocking.num_blocks() << p.hash.num_hashes) * 20));
    draw_fractions(random, p.centroids);
    const std::vector<float> y = run_fused(p, 2);
    Digest digest;
    digest.add(y.data(), static_cast<int64_t>(y.size()));
    EXPECT(digest.value() == expected.digest, << "the digest is " << std::hex << digest.value());
  }
}

TEST(projections_have_the_same_bits_on_every_machine) {
  constexpr int64_t kVectors = 2 * simd::kLanes, kLength = 9, kHashes = 7;
  std::mt19937 random(9);
  std::vector<float> values(kVectors * kLength), projections(kLength * kHashes), out(kVectors * kHashes);
  draw_fractions(random, values);
  draw_fractions(random, projections);
  simd::kernels().project(values.data(), kVectors, kLength, kVectors, projections.data(), kHashes, out.data(),
                          kVectors);
  Digest digest;
  digest.add(out.data(), kVectors * kHashes);
  EXPECT(digest.value() == 0x87C6540CB038FB97ull, << "the digest is " << std::hex << digest.value());
}

// Integers, so that many splits are equally good but for rounding.
TEST(fitted_trees_have_the_same_bits_on_every_machine) {
  constexpr int64_t kVectors = 1000, kLength = 12, kDepth = 10, kNodes = (1 << kDepth) - 1;
  std::mt19937 random(6);
  std::vector<float> vectors(kVectors * kLength), importance(kLength, 0.3f);
  draw_integers(random, 2, vectors);
  std::vector<int32_t> coordinates(kNodes);
  std::vector<float> thresholds(kNodes);
  const TreeShape shape{kDepth, 400};
  fit_trees(vectors.data(), kVectors, kLength, importance.data(), &shape, 1, coordinates.data(), thresholds.data());
  Digest digest;
  digest.add(coordinates.data(), kNodes);
  digest.add(thresholds.data(), kNodes);
  EXPECT(digest.value() == 0x82252948957097C6ull, << "the digest is " << std::hex << digest.value());
}

TEST(sums_of_small_integers_are_exact) {
  for (const int64_t length : {3, 8, 20}) {
    std::mt19937 random(7);
    Problem p = channel_problem(random, "exact", length);
    draw_integers(random, 2, p.x);
    draw_integers(random, 9, p.w);
    draw_integers(random, 9, p.bias);
    EXPECT(run_fused(p, 2) == dense(p), << "L " << length);
    EXPECT(run_staged(p, 2) == dense(p), << "L " << length);
  }
}

// Byte 4 * j + r belongs to channel 16 * r + j, and those with even r are biased by 128.
TEST(int8_entries_are_the_nearest_integers_with_ties_to_even) {
  constexpr int64_t kRows = 13, kDepth = 5, kWidth = 2 * simd::kInt8Channels;
  std::mt19937 random(8);
  std::vector<float> a(kRows * kDepth), panel(kWidth * kDepth), inverse(simd::kInt8Channels, 0.25f);
  draw_integers(random, 5, a);
  draw_integers(random, 10, panel);
  std::vector<uint8_t> out = poisoned<uint8_t>(kRows * kWidth);
  simd::kernels().gemm_int8(a.data(), kRows, kDepth, panel.data(), kWidth, inverse.data(), out.data(), kWidth);
  int64_t ties = 0;
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t n = 0; n < kWidth; ++n) {
      float sum = 0.0f;
      for (int64_t d = 0; d < kDepth; ++d) {
        const int64_t strip = n / simd::kLanes;
        sum += a[static_cast<size_t>(r * kDepth + d)] *
               panel[static_cast<size_t>((strip * kDepth + d) * simd::kLanes + n % simd::kLanes)];
      }
      ties += std::fabs(std::fmod(sum, 4.0f)) == 2.0f ? 1 : 0;
      const int64_t channel = n % simd::kInt8Channels, quarter = channel / 16;
      const int64_t place = r * kWidth + n - channel + 4 * (channel % 16) + quarter;
      const uint8_t byte = out[static_cast<size_t>(place)];
      const auto entry = static_cast<int8_t>(quarter % 2 == 0 ? byte ^ 0x80 : byte);
      EXPECT(static_cast<float>(entry) == std::nearbyint(sum * 0.25f), << "row " << r << ", column " << n);
    }
  }
  EXPECT(ties > 100);
}

// Where a comparison with a NaN decides, instructions for minima and maxima differ between processors.
TEST(activations_keep_a_nan_and_the_sign_of_zero) {
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> values{nan,        -0.0f, 0.0f,      -1.0f, 1.0f, infinity, -infinity, 0x1p-140f,
                                  -0x1p-140f, -3.0f, 0x1p-126f, -nan,  2.0f, 2.5f,     7.0f,      -0.0f};
  const float low = -2.0f, high = 2.25f, slope = 0.5f;
  const auto activated = [&](float value, Activation activation) {
    if (activation == Activation::kRelu) return value < 0.0f ? 0.0f : value;
    if (activation == Activation::kClip) return value < low ? low : value > high ? high : value;
    return value < 0.0f ? value * slope : value;
  };
  for (const Activation activation : {Activation::kRelu, Activation::kClip, Activation::kLeakyRelu}) {
    for (const bool pixel_major : {false, true}) {
      // One pixel of 16 channels, with a bias that keeps what is there: x + -0 is x, also for a zero of either sign.
      std::vector<float> sums = values, y = poisoned<float>(simd::kLanes), bias(simd::kLanes, -0.0f);
      const float first = activation == Activation::kClip ? low : slope;
      const simd::OutputTile output{y.data(),   1,     simd::kLanes, bias.data(),
                                    activation, first, high,         pixel_major ? simd::kLanes : 1};
      simd::kernels().write_output({sums.data(), simd::kLanes, false}, 1, output);
      for (size_t i = 0; i < values.size(); ++i) {
        const float expected = activated(values[i], activation);
        EXPECT(std::isnan(expected) ? std::isnan(y[i]) : std::memcmp(&expected, &y[i], sizeof(float)) == 0,
               << "activation " << static_cast<int>(activation) << " of " << values[i] << " is " << y[i]);
      }
    }
  }
}

}  // namespace
}  // namespace reuse::testing
