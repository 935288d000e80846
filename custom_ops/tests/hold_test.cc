// Hold against its definition, pixel by pixel, over random histories.
#include "reuse/hold.h"

#include <atomic>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "support.h"
#include "test.h"

namespace reuse::testing {
namespace {

constexpr int64_t kMuch = int64_t{1} << 30;

template <typename T>
struct Images {
  HeldShape shape;
  std::vector<T> values;
};

int64_t place(const HoldAttributes& a, const HeldShape& s, int64_t n, int64_t c, int64_t row, int64_t column) {
  if (a.axis == 1) return ((n * s.channels + c) * s.height + row) * s.width + column;
  return ((n * s.height + row) * s.width + column) * s.channels + c;
}

// Whether `is` holds of some pixel (or, with `all`, of all pixels) within so many rows and columns.
template <typename Is>
bool around(const HeldShape& s, int64_t row, int64_t column, int64_t pixels, bool all, const Is& is) {
  for (int64_t r = std::max<int64_t>(0, row - pixels); r <= std::min(s.height - 1, row + pixels); ++r) {
    for (int64_t c = std::max<int64_t>(0, column - pixels); c <= std::min(s.width - 1, column + pixels); ++c) {
      if (is(r, c) != all) return !all;
    }
  }
  return all;
}

// What is held, and for how many runs in a row each pixel has differed by more than half of what it may.
template <typename T>
struct Held {
  std::vector<T> values;
  int64_t runs = 0;
  std::vector<int64_t> halfway;
};

template <typename T>
std::vector<T> expected(const HoldAttributes& a, const Images<T>& x, Held<T>& last, int64_t* changed) {
  const std::vector<T>& held = last.values;
  std::vector<T> y = held;
  const HeldShape& s = x.shape;
  for (int64_t n = 0; n < s.batch; ++n) {
    const auto any_channel = [&](int64_t row, int64_t column, const auto& is) {
      for (int64_t c = 0; c < s.channels; ++c) {
        const auto i = static_cast<size_t>(place(a, s, n, c, row, column));
        const float tolerance = a.tolerances[a.tolerances.size() == 1 ? 0 : static_cast<size_t>(c)];
        if (is(static_cast<float>(x.values[i]) - static_cast<float>(held[i]), tolerance)) return true;
      }
      return false;
    };
    const auto differs = [&](int64_t row, int64_t column) {
      return any_channel(row, column, [](float d, float tolerance) { return !(std::fabs(d) <= tolerance); });
    };
    const auto runs = [&](int64_t row, int64_t column) -> int64_t& {
      return last.halfway[static_cast<size_t>((n * s.height + row) * s.width + column)];
    };
    for (int64_t row = 0; row < s.height; ++row) {
      for (int64_t column = 0; column < s.width; ++column) {
        const bool is =
            any_channel(row, column, [](float d, float tolerance) { return !(std::fabs(d) <= tolerance / 2); });
        runs(row, column) = is ? runs(row, column) + 1 : 0;
      }
    }
    const bool is_due = a.patience > 0 && (last.runs + 1) % a.patience == 0;
    const auto opened = [&](int64_t row, int64_t column) {
      return around(s, row, column, a.opening, false, [&](int64_t r, int64_t c) {
        return (is_due && runs(r, c) >= a.patience) || around(s, r, c, a.opening, true, differs);
      });
    };
    for (int64_t row = 0; row < s.height; ++row) {
      for (int64_t column = 0; column < s.width; ++column) {
        const bool wild = any_channel(row, column, [](float d, float) { return !std::isfinite(d); });
        if (!wild && !around(s, row, column, a.dilation, false, opened)) continue;
        ++*changed;
        for (int64_t c = 0; c < s.channels; ++c) {
          const auto i = static_cast<size_t>(place(a, s, n, c, row, column));
          y[i] = x.values[i];
        }
      }
    }
  }
  ++last.runs;
  return y;
}

HoldAttributes random_attributes(std::mt19937& random, int64_t channels) {
  HoldAttributes a;
  for (int64_t c = random() % 2 == 0 ? 1 : channels; c > 0; --c) {
    a.tolerances.push_back(static_cast<float>(random() % 80) / 4.0f);
  }
  if (random() % 8 == 0) a.tolerances[0] = std::numeric_limits<float>::infinity();
  a.opening = random() % 2 == 0 ? 0 : static_cast<int64_t>(random() % 3);
  a.dilation = random() % 2 == 0 ? 0 : static_cast<int64_t>(random() % 9);
  a.patience = random() % 3 == 0 ? 0 : static_cast<int64_t>(1 + random() % 4);
  a.axis = random() % 2 == 0 ? 1 : 3;
  return a;
}

// Values of a byte, with fractions in a float.
template <typename T>
T random_value(std::mt19937& random) {
  return static_cast<T>(static_cast<float>(random() % 1024) / 4.0f);
}

template <typename T>
Images<T> random_images(std::mt19937& random, int64_t channels) {
  const auto extent = [&](int64_t most) { return static_cast<int64_t>(random() % static_cast<uint64_t>(most)); };
  Images<T> x{{extent(3), channels, 1 + extent(14), 1 + extent(30)}, {}};
  x.values.resize(static_cast<size_t>(x.shape.batch * channels * x.shape.height * x.shape.width));
  for (T& value : x.values) value = random_value<T>(random);
  return x;
}

// Noise everywhere, and a stretch of rows that is another.
template <typename T>
void change(Images<T>& x, std::mt19937& random) {
  const size_t size = x.values.size(), begin = size == 0 ? 0 : random() % size;
  const size_t end = std::min(size, begin + random() % 200);
  for (size_t i = 0; i < size; ++i) {
    if (i >= begin && i < end && random() % 8 != 0) {
      x.values[i] = random_value<T>(random);
    } else {
      x.values[i] = static_cast<T>(static_cast<float>(x.values[i]) * 0.97f);
    }
  }
  if constexpr (std::is_same_v<T, float>) {
    const float wild[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 3e38f};
    if (size > 0 && random() % 2 == 0) x.values[random() % size] = wild[random() % 3];
  }
}

template <typename T>
std::vector<T> run_hold(const HoldAttributes& a, ReuseState& state, const Images<T>& x, int64_t threads = 1,
                        RunStatistics* statistics = nullptr) {
  PoisonedAllocator allocator;
  Threads parallel(threads);
  std::vector<T> y = poisoned<T>(static_cast<int64_t>(x.values.size()));
  {
    Workspace workspace(allocator, parallel);
    hold(workspace, state, a, x.shape, x.values.data(), y.data());
    if (statistics != nullptr) *statistics = workspace.statistics;
  }
  EXPECT(allocator.held() == 0);
  return y;
}

template <typename T>
bool same(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

template <typename T>
void check_histories() {
  int64_t held_runs = 0, in_part = 0;
  for (int seed = 0; seed < 60; ++seed) {
    std::mt19937 random(static_cast<unsigned>(seed));
    const auto channels = static_cast<int64_t>(1 + random() % 4);
    const HoldAttributes a = random_attributes(random, channels);
    a.check();
    ReuseState state(kMuch);
    Images<T> x = random_images<T>(random, channels);
    Held<T> held;
    for (int run = 0; run < 14; ++run) {
      const unsigned event = static_cast<unsigned>(random() % 12);
      if (event == 0) x = random_images<T>(random, channels);
      if (event == 1) state.reset();
      if (event <= 1) held = {};
      if (event > 1) change(x, random);
      RunStatistics statistics;
      const std::vector<T> y = run_hold(a, state, x, 1 + run % 3, &statistics);
      int64_t changed = 0;
      const bool anew = held.values.empty();
      if (anew) held = {x.values, 0, std::vector<int64_t>(static_cast<size_t>(statistics.vectors))};
      if (!anew) held.values = expected(a, x, held, &changed);
      EXPECT(same(y, held.values), << "run " << run << ", seed " << seed);
      EXPECT(statistics.changed == changed && statistics.anew == (anew ? 1 : 0), << run << ", seed " << seed);
      EXPECT(statistics.vectors == x.shape.batch * x.shape.height * x.shape.width);
      held_runs += anew ? 0 : 1;
      in_part += changed > 0 && changed < statistics.vectors ? 1 : 0;
    }
  }
  EXPECT(held_runs > 200 && in_part > 100, << held_runs << ", " << in_part);
}

TEST(hold_keeps_what_its_definition_keeps) {
  check_histories<float>();
  check_histories<uint8_t>();
}

// The same number of bytes is not the same shape.
TEST(hold_begins_anew_with_another_shape) {
  HoldAttributes a;
  a.tolerances = {1000.0f};
  ReuseState state(kMuch);
  for (const HeldShape& shape : {HeldShape{1, 2, 3, 4}, {2, 1, 3, 4}, {1, 1, 6, 4}, {1, 2, 4, 3}, {1, 2, 0, 3}}) {
    const Images<uint8_t> x{shape, std::vector<uint8_t>(shape.height == 0 ? 0 : 24, 7)};
    for (int run = 0; run < 2; ++run) {
      RunStatistics statistics;
      EXPECT(same(run_hold(a, state, x, 1, &statistics), x.values));
      EXPECT(statistics.anew == 1 - run || shape.height == 0);
    }
  }
}

TEST(hold_holds_no_more_than_its_memory) {
  HoldAttributes a;
  a.tolerances = {1000.0f};
  Images<float> x{{1, 1, 3, 5}, std::vector<float>(15, 1.0f)}, other{x.shape, std::vector<float>(15, 2.0f)};
  for (const int64_t patience : {0, 2}) {
    a.patience = patience;
    const int64_t bytes = 15 * 4 + (patience > 0 ? 15 : 0);
    for (const int64_t less : {0, 1}) {
      ReuseState state(bytes - less);
      run_hold(a, state, x);
      EXPECT(state.counts().bytes == (less == 0 ? bytes : 0));
      EXPECT(same(run_hold(a, state, other), less == 0 ? x.values : other.values));
    }
  }
}

// A speck that is smaller than the opening, and a step of more than half of the tolerance.
TEST(hold_takes_what_lasts) {
  HoldAttributes a;
  a.tolerances = {8.0f};
  a.opening = 1;
  a.patience = 3;
  ReuseState state(kMuch);
  Images<float> x{{1, 1, 9, 9}, std::vector<float>(81, 1.0f)};
  const std::vector<float> before = x.values;
  run_hold(a, state, x);
  x.values[10] = 50.0f;
  x.values[70] = 6.0f;
  Images<float> still = x;
  still.values[10] = 1.0f;  // for a run only, so that nothing lasts there
  for (const Images<float>& each : {x, still}) EXPECT(same(run_hold(a, state, each), before));
  std::vector<float> after = before;
  after[70] = 6.0f;
  EXPECT(same(run_hold(a, state, x), after));
  for (int run = 0; run < 2; ++run) EXPECT(same(run_hold(a, state, x), after));
  EXPECT(same(run_hold(a, state, x), x.values));
}

TEST(hold_is_right_in_runs_at_the_same_time) {
  HoldAttributes a;
  a.tolerances = {0.25f};
  a.patience = 2;
  a.opening = a.dilation = 1;
  ReuseState state(kMuch);
  std::atomic<bool> right{true};
  Threads(6).run(6, [&](int64_t t) {
    std::mt19937 random(t);
    // Whatever is held is within the tolerance, or it is changed.
    Images<float> x{{1, 2, 20, 30}, {}};
    for (int run = 0; run < 20; ++run) {
      x.values.assign(1200, static_cast<float>(t) + static_cast<float>(random() % 8) / 32.0f);
      const std::vector<float> y = run_hold(a, state, x);
      for (size_t i = 0; i < y.size(); ++i) right = right && std::fabs(y[i] - x.values[i]) <= 0.25f;
      if (t == 0 && run % 4 == 1) state.reset();
    }
  });
  EXPECT(right);
}

TEST(hold_begins_anew_after_a_run_that_failed) {
  HoldAttributes a;
  a.tolerances = {1000.0f};
  const Images<float> x{{1, 1, 3, 5}, std::vector<float>(15, 1.0f)}, other{x.shape, std::vector<float>(15, 2.0f)};
  ReuseState state(kMuch);
  run_hold(a, state, x);
  ShortMemory memory(2);
  InTurn parallel;
  Workspace workspace(memory, parallel);
  std::vector<float> y(15);
  expect_throw<std::bad_alloc>("", [&] { hold(workspace, state, a, x.shape, x.values.data(), y.data()); });
  EXPECT(state.counts().bytes == 0);
  EXPECT(same(run_hold(a, state, other), other.values));
}

TEST(impossible_holds_are_refused) {
  const auto refused = [](const std::string& part, const std::function<void(HoldAttributes&)>& spoil) {
    HoldAttributes a;
    a.tolerances = {1.0f};
    a.check();
    spoil(a);
    expect_throw<std::invalid_argument>(part, [&] { a.check(); });
  };
  refused("tolerances has 0 values", [](auto& a) { a.tolerances.clear(); });
  refused("must be at least 0", [](auto& a) { a.tolerances.push_back(-0.5f); });
  refused("must be at least 0", [](auto& a) { a.tolerances[0] = std::numeric_limits<float>::quiet_NaN(); });
  refused("opening is 65, must be 0 to 64", [](auto& a) { a.opening = 65; });
  refused("dilation is -1, must be 0 to 64", [](auto& a) { a.dilation = -1; });
  refused("patience is -1, must be at least 0", [](auto& a) { a.patience = -1; });
  refused("axis is 2, must be 1 or 3", [](auto& a) { a.axis = 2; });
  refused("memory is -1, must be at least 0", [](auto& a) { a.memory = -1; });
  HoldAttributes a;
  a.tolerances = {1.0f, 2.0f};
  ReuseState state(kMuch);
  const Images<float> x{{1, 3, 1, 1}, {0.0f, 0.0f, 0.0f}};
  expect_throw<std::invalid_argument>("X has 3 channels, but there are 2 tolerances", [&] { run_hold(a, state, x); });
}

}  // namespace
}  // namespace reuse::testing
