// Redundancy against sets of windows that are read one element at a time.
#include "reuse/redundancy.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <stdexcept>

#include "support.h"
#include "test.h"

namespace reuse::testing {
namespace {

struct RedundancyProblem {
  RedundancyAttributes attributes;
  int64_t batch, channels, height, width;
  std::vector<float> x;
};

RedundancyAttributes windows_of(std::vector<int64_t> windows) {
  RedundancyAttributes a;
  a.strides.assign(windows.size(), 1);
  a.gains.assign(windows.size(), 1.0f);
  a.windows = std::move(windows);
  return a;
}

// Images of few different values, which repeat for some kinds of windows and not for others.
RedundancyProblem random_redundancy(std::mt19937& random) {
  const auto draw = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  RedundancyProblem p{windows_of({}), draw(1, 4), draw(1, 12), draw(1, 20), draw(1, 30), {}};
  for (int64_t kinds = draw(1, 4); kinds > 0; --kinds) {
    p.attributes.windows.push_back(draw(1, 20) == 1 ? int64_t{1} << 30 : draw(1, 9));
    p.attributes.strides.push_back(draw(1, 3));
  }
  p.attributes.samples = draw(1, 3) == 1 ? draw(1, 4096) : draw(1, 300);
  p.attributes.channels = draw(1, 9);
  const float values[] = {0.0f, -0.0f, 1.0f, -1.0f, std::numeric_limits<float>::quiet_NaN()};
  const int64_t levels = draw(1, 5), every = draw(1, 40);
  p.x.resize(static_cast<size_t>(p.batch * p.channels * p.height * p.width), 1.0f);
  for (float& value : p.x) {
    if (draw(1, every) == 1) value = values[draw(0, levels - 1)];
  }
  return p;
}

float share_of_sets(const RedundancyProblem& p, size_t kind) {
  const RedundancyAttributes& a = p.attributes;
  const int64_t stride = a.strides[kind], side = a.windows[kind], pixels = side * std::min(side, p.height);
  const int64_t picked = std::min(std::max(a.channels, (64 + pixels - 1) / pixels), p.channels);
  std::vector<std::vector<int64_t>> places;
  for (int64_t n = 0; n < p.batch; ++n) {
    for (int64_t row = 0; row < p.height; row += stride) {
      for (int64_t column = 0; column < p.width; column += stride) places.push_back({n, row, column});
    }
  }
  const auto count = static_cast<int64_t>(places.size()), taken = std::min(a.samples, count);
  const int64_t before = std::min(side / 2, std::max(p.height, p.width));
  const int64_t after = std::min(side - side / 2, std::max(p.height, p.width));
  std::set<std::vector<uint32_t>> distinct, distinct_in_half;
  for (int64_t k = 0; k < taken; ++k) {
    const int64_t begin = k * count / taken, end = (k + 1) * count / taken;
    const uint64_t fraction = static_cast<uint64_t>(k) * 0x9E3779B97F4A7C15u >> 44;
    const auto& place = places[static_cast<size_t>(begin + (static_cast<int64_t>(fraction) * (end - begin) >> 20))];
    std::vector<uint32_t> window;
    for (int64_t j = 0; j < picked; ++j) {
      const int64_t plane = place[0] * p.channels + j * p.channels / picked;
      for (int64_t r = place[1] - before; r < place[1] + after; ++r) {
        for (int64_t c = place[2] - before; c < place[2] + after; ++c) {
          const bool inside = r >= 0 && r < p.height && c >= 0 && c < p.width;
          window.push_back(0);
          if (inside) {
            std::memcpy(&window.back(), &p.x[static_cast<size_t>((plane * p.height + r) * p.width + c)], sizeof(float));
          }
        }
      }
    }
    distinct.insert(window);
    if (k % 2 == 0) distinct_in_half.insert(window);
  }
  const double found = static_cast<double>(distinct.size()), all = static_cast<double>(taken);
  if (taken == count || taken < 2) return static_cast<float>(1.0 - found / all);
  const int64_t every_other = (taken + 1) / 2;
  const auto half = static_cast<double>(every_other), of_half = static_cast<double>(distinct_in_half.size());
  const double growth = std::min(1.0, std::log(found / of_half) / std::log(all / half));
  return static_cast<float>(1.0 - found / all * std::pow(static_cast<double>(count) / all, growth - 1.0));
}

std::vector<float> shares_of(const RedundancyProblem& p, int64_t threads = 1) {
  PoisonedAllocator allocator;
  Threads parallel(threads);
  std::vector<float> shares;
  {
    Workspace workspace(allocator, parallel);
    shares = repeated_shares(workspace, p.attributes, p.batch, p.channels, p.height, p.width, p.x.data());
  }
  EXPECT(allocator.held() == 0);
  return shares;
}

TEST(redundancy_equals_sets_of_windows) {
  int64_t between = 0;
  for (int seed = 0; seed < 150; ++seed) {
    std::mt19937 random(static_cast<unsigned>(seed));
    const RedundancyProblem p = random_redundancy(random);
    const std::vector<float> shares = shares_of(p, 1 + seed % 3);
    for (size_t kind = 0; kind < shares.size(); ++kind) {
      const float expected = share_of_sets(p, kind);
      EXPECT(shares[kind] == expected, << "seed " << seed << ": " << shares[kind] << " instead of " << expected);
      between += expected > 0.1f && expected < 0.9f ? 1 : 0;
    }
  }
  EXPECT(between >= 50, << "few problems of the test are between all and nothing: " << between);
}

// All pairs of windows of a row of values that differ in one bit are different, whichever bit it is.
TEST(redundancy_sees_every_bit) {
  for (int bit = 0; bit < 32; ++bit) {
    RedundancyProblem p{windows_of({1, 2, 3}), 1, 1, 1, 64, std::vector<float>(64, 0.0f)};
    for (size_t i = 0; i < p.x.size(); i += 2) {
      const uint32_t bits = uint32_t{1} << bit;
      std::memcpy(&p.x[i], &bits, sizeof(bits));
    }
    const std::vector<float> shares = shares_of(p);
    // Alternately a and 0, and in the last window of 3 two zeros.
    EXPECT(shares[0] == 1.0f - 2.0f / 64 && shares[1] == 1.0f - 2.0f / 64 && shares[2] == 1.0f - 3.0f / 64,
           << "bit " << bit << ": " << shares[0] << " " << shares[1] << " " << shares[2]);
  }
}

TEST(redundancy_of_images_without_elements_is_none) {
  for (const auto& [batch, channels, height, width] :
       {std::array<int64_t, 4>{0, 2, 3, 4}, {1, 0, 3, 4}, {1, 2, 0, 4}, {1, 2, 3, 0}}) {
    const RedundancyProblem p{windows_of({3, 5}), batch, channels, height, width, {}};
    EXPECT(shares_of(p) == std::vector<float>({0.0f, 0.0f}));
  }
}

TEST(redundancy_is_enough_beyond_the_threshold) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  RedundancyAttributes a = windows_of({1, 1});
  a.gains = {2.0f, -1.0f};
  a.threshold = 0.5f;
  EXPECT(a.are_enough({0.75f, 0.5f}));   // 1
  EXPECT(!a.are_enough({0.5f, 0.5f}));   // 0.5, not more
  EXPECT(!a.are_enough({0.5f, 0.75f}));  // 0.25
  a.gains = {kNan, 1.0f};
  EXPECT(!a.are_enough({1.0f, 1.0f}));
}

TEST(impossible_redundancies_are_refused) {
  const auto refused = [](const std::string& part, const std::function<void(RedundancyAttributes&)>& spoil) {
    RedundancyAttributes a = windows_of({3, 5});
    a.check();
    spoil(a);
    expect_throw<std::invalid_argument>(part, [&] { a.check(); });
  };
  refused("windows has 0 values, needs at least 1", [](auto& a) { a = {}; });
  refused("strides has 1 values, needs 2", [](auto& a) { a.strides.pop_back(); });
  refused("gains has 3 values, needs 2", [](auto& a) { a.gains.push_back(0.0f); });
  refused("windows is 0, must be at least 1", [](auto& a) { a.windows[1] = 0; });
  refused("strides is 1073741825, must be at most", [](auto& a) { a.strides[0] = (1 << 30) + 1; });
  refused("samples is 0, must be 1 to 65536", [](auto& a) { a.samples = 0; });
  refused("samples is 65537, must be 1 to 65536", [](auto& a) { a.samples = 65537; });
  refused("channels is 0, must be at least 1", [](auto& a) { a.channels = 0; });
}

}  // namespace
}  // namespace reuse::testing
