// Scope static: a function of the input alone, whatever runs beside it and however tables are kept.
#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "../cpu/static_tables.h"
#include "support.h"
#include "test.h"

namespace reuse::testing {
namespace {

constexpr int kCases = 60;

Problem static_problem(int seed) {
  std::mt19937 random(static_cast<unsigned>(seed));
  Problem p = random_problem(random, seed % 2 == 0 ? "learned" : "sign");
  make_static(random, p, seed % 4 < 2 ? TableType::kInt8 : TableType::kFloat);
  return p;
}

// The problem of one of the images.
Problem image_of(const Problem& p, int64_t image) {
  Problem one = p;
  const ConvGeometry& g = p.blocking.geometry;
  one.blocking = Blocking::make(ConvGeometry::make(g.attributes, 1, g.in_channels, g.in_h, g.in_w, g.out_channels));
  const int64_t size = g.in_channels * g.in_pixels();
  one.x.assign(p.x.begin() + image * size, p.x.begin() + (image + 1) * size);
  return one;
}

TEST(static_layers_are_functions_of_each_image) {
  for (int seed = 0; seed < kCases; ++seed) {
    Problem p = static_problem(seed);
    const std::vector<float> y = run_fused(p, 1);
    EXPECT(same_bits(run_fused(p, 3), y), << "threads, seed " << seed);
    p.keep_tables = false;
    EXPECT(same_bits(run_fused(p, 2), y), << "tables of the run, seed " << seed);
    const ConvGeometry& g = p.blocking.geometry;
    const int64_t size = g.out_channels * g.out_pixels();
    for (int64_t image = 0; image < g.batch; ++image) {
      const std::vector<float> alone = run_fused(image_of(p, image), 1);
      EXPECT(same_bits(alone, {y.begin() + image * size, y.begin() + (image + 1) * size}),
             << "image " << image << ", seed " << seed);
    }
  }
}

// Rows that are cut into tiles of two rows, and sums that wait for further tables.
TEST(static_layers_of_wide_images_add_all_of_their_tables) {
  constexpr int64_t kBlocks = 14, kHeight = 41, kWide = 300;
  for (const TableType table : {TableType::kInt8, TableType::kFloat}) {
    std::mt19937 random(7);
    Problem p = channel_problem(random, "learned", 1);
    ConvAttributes attributes = p.blocking.geometry.attributes;
    attributes.kernel_h = attributes.kernel_w = 3;
    attributes.pad_top = attributes.pad_left = attributes.pad_bottom = attributes.pad_right = 1;
    attributes.group = 1;
    attributes.sub_vector_length = 1;
    const ConvGeometry g = ConvGeometry::make(attributes, 1, kBlocks, kHeight, kWide, 5);
    p.blocking = Blocking::make(g);
    p.hash.num_hashes = 8;
    const auto draw = [&](std::vector<float>& values, int64_t size) {
      std::normal_distribution<float> normal;
      values.resize(static_cast<size_t>(size));
      for (float& value : values) value = normal(random);
    };
    draw(p.x, kBlocks * g.in_pixels());
    draw(p.w, 5 * kBlocks * 9);
    p.bias.clear();
    draw_parameters(random, p);
    p.cluster = {Scope::kStatic};
    p.table = table;
    draw(p.centroids, kBlocks << 8);
    const std::vector<float> y = run_fused(p, 1);
    EXPECT(same_bits(run_fused(p, 2), y), << "threads");
    p.keep_tables = false;
    EXPECT(same_bits(run_fused(p, 2), y), << "tables of the run");
    p.keep_tables = true;
    p.blocking.geometry.attributes.output_order = DataOrder::kNhwc;
    EXPECT(same_bits(run_fused(p, 2), y), << "pixel-major output");
  }
}

TEST(static_orders_of_data_change_no_bit) {
  for (int seed = 0; seed < kCases; ++seed) {
    Problem p = static_problem(1000 + seed);
    const std::vector<float> expected = run_fused(p, 1);
    ConvAttributes& attributes = p.blocking.geometry.attributes;
    attributes.output_order = DataOrder::kNhwc;
    EXPECT(same_bits(run_fused(p, 2), expected), << "output, seed " << seed);
    if (attributes.layout == Layout::kPatch) continue;
    attributes.input_order = DataOrder::kNhwc;
    EXPECT(same_bits(run_fused(p, 1), expected), << "input and output, seed " << seed);
  }
}

TEST(static_layers_convolve_the_centroids) {
  for (int seed = 0; seed < 12; ++seed) {
    std::mt19937 random(static_cast<unsigned>(2000 + seed));
    Problem p = channel_problem(random, "learned", 1 + 3 * seed % 17, 20 + seed, 1 + seed % 6, 10 + 7 * seed, 1);
    make_static(random, p, TableType::kFloat);
    PoisonedAllocator allocator;
    Threads threads(1);
    Workspace workspace(allocator, threads);
    std::vector<int64_t> codes(static_cast<size_t>(p.blocking.num_blocks() * p.blocking.vectors));
    hash(workspace, p.blocking, *p.encoder(allocator), p.x.data(), codes.data());
    Problem replaced = p;
    const ConvGeometry& g = p.blocking.geometry;
    for (int64_t block = 0; block < p.blocking.num_blocks(); ++block) {
      for (int64_t v = 0; v < p.blocking.vectors; ++v) {
        const int64_t code = codes[static_cast<size_t>(block * p.blocking.vectors + v)];
        const int64_t row = (block << p.hash.num_hashes) + code, length = p.blocking.sub_vector_length();
        for (int64_t l = 0; l < p.blocking.block_length(block); ++l) {
          const int64_t channel = (v / g.in_pixels()) * g.in_channels + p.blocking.first_channel(block) + l;
          replaced.x[static_cast<size_t>(channel * g.in_pixels() + v % g.in_pixels())] =
              p.centroids[static_cast<size_t>(row * length + l)];
        }
      }
    }
    const std::vector<float> expected = dense(replaced), y = run_fused(p, 2);
    float largest = 1.0f;
    for (const float value : expected) largest = std::max(largest, std::fabs(value));
    for (size_t i = 0; i < y.size(); ++i) {
      EXPECT(std::fabs(y[i] - expected[i]) <= 1e-4f * largest, << "at " << i << ", seed " << seed);
    }
    p.table = TableType::kInt8;
    const std::vector<float> rough = run_fused(p, 2);
    double error = 0.0, size = 0.0;
    for (size_t i = 0; i < y.size(); ++i) {
      error += std::pow(static_cast<double>(rough[i]) - y[i], 2.0);
      size += std::pow(static_cast<double>(y[i]), 2.0);
    }
    EXPECT(error <= 0.01 * size + 1e-6, << "relative error " << std::sqrt(error / size) << ", seed " << seed);
  }
}

TEST(static_layers_keep_what_is_not_finite_to_itself) {
  for (int seed = 0; seed < kCases; ++seed) {
    Problem p = static_problem(3000 + seed);
    p.gather =
        GatherAttributes::of(1.0f, -std::numeric_limits<float>::infinity(), std::numeric_limits<float>::infinity());
    const ConvGeometry& g = p.blocking.geometry;
    if (p.x.empty() || g.rows() == 0) continue;
    const std::vector<float> before = run_fused(p, 1);
    std::mt19937 random(static_cast<unsigned>(seed));
    const float values[] = {std::nanf(""), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity()};
    const size_t place = random() % p.x.size();
    p.x[place] = values[seed % 3];
    RunStatistics statistics;
    const std::vector<float> after = run_fused(p, 3, &statistics);
    // The dense convolution tells which outputs read the element.
    const std::vector<float> expected = dense(p);
    bool read = false;
    for (size_t i = 0; i < after.size(); ++i) {
      if (std::isfinite(expected[i])) {
        EXPECT(same_bits({after[i]}, {before[i]}), << "at " << i << ", seed " << seed);
      } else {
        read = true;
        EXPECT(std::isnan(expected[i]) ? std::isnan(after[i]) : after[i] == expected[i],
               << "at " << i << ": " << after[i] << ", expected " << expected[i] << ", seed " << seed);
      }
    }
    EXPECT((statistics.guarded > 0) || !read, << "seed " << seed);
  }
}

TEST(equal_static_layers_share_their_tables) {
  std::mt19937 random(5);
  Problem p = channel_problem(random, "learned", 8);
  make_static(random, p, TableType::kInt8);
  PoisonedAllocator allocator;
  const ReusePlan first = p.plan(allocator), second = p.plan(allocator);
  EXPECT(first.static_tables() == second.static_tables());
  p.w[7] += 1.0f;
  EXPECT(p.plan(allocator).static_tables() != first.static_tables());
  p.w[7] -= 1.0f;
  p.table = TableType::kFloat;
  EXPECT(p.plan(allocator).static_tables() != first.static_tables());
  std::vector<const StaticTables*> found(8);
  p.table = TableType::kInt8;
  Threads(8).run(8, [&](int64_t t) { found[t] = p.plan(allocator).static_tables(); });
  EXPECT(
      std::all_of(found.begin(), found.end(), [&](const StaticTables* one) { return one == first.static_tables(); }));
}

TEST(static_operands_that_make_no_sense_are_refused) {
  std::mt19937 random(6);
  PoisonedAllocator allocator;
  Problem p = channel_problem(random, "learned", 8);
  make_static(random, p, TableType::kInt8);
  const auto plan = [&](const Problem& of) { return [&] { of.plan(allocator); }; };
  Problem wrong = p;
  wrong.centroids.pop_back();
  expect_throw<std::invalid_argument>("centroids have", plan(wrong));
  wrong = p;
  wrong.centroids[3] = std::nanf("");
  expect_throw<std::invalid_argument>("not finite", plan(wrong));
  wrong = p;
  for (float& value : wrong.centroids) value = 1e38f;
  expect_throw<std::invalid_argument>("2^120", plan(wrong));
  for (size_t i = 0; i < p.w.size(); i += 41) {  // whichever block and tap it is of, numbers follow and come before it
    wrong = p;
    wrong.w[i] = std::nanf("");
    expect_throw<std::invalid_argument>("2^120", plan(wrong));
  }
  wrong = p;
  wrong.hash.num_hashes = 17;  // more than the family would take, too
  expect_throw<std::invalid_argument>("at most 16", plan(wrong));
  wrong = std::move(p);
  wrong.hash.family = &find_hash_family("exact");
  expect_throw<std::invalid_argument>("a family of codes", plan(wrong));
}

}  // namespace
}  // namespace reuse::testing
