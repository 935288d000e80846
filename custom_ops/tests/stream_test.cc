// Sums that are kept: whatever ran before, a run's result is that of a session that has run nothing else.
#include <algorithm>
#include <atomic>
#include <limits>

#include "../cpu/last_run.h"
#include "support.h"
#include "test.h"

namespace reuse::testing {
namespace {

constexpr int64_t kMuch = int64_t{1} << 30;

Problem stream_problem(std::mt19937& random, int seed) {
  Problem p = seed % 3 == 0 ? channel_problem(random, "learned", 8, 40, 5, 70, 2)
                            : random_problem(random, seed % 2 == 0 ? "learned" : "sign");
  make_static(random, p, TableType::kInt8);
  ConvAttributes& attributes = p.blocking.geometry.attributes;
  if (seed % 4 == 1) attributes.output_order = DataOrder::kNhwc;
  if (seed % 8 == 1 && attributes.layout == Layout::kChannel) attributes.input_order = DataOrder::kNhwc;
  return p;
}

// A small layer of two blocks.
Problem static_problem(std::mt19937& random) {
  Problem p = channel_problem(random, "learned", 8, 16, 5, 20, 1);
  make_static(random, p, TableType::kInt8);
  return p;
}

// The same layer with an input of another size.
Problem of_size(const Problem& layer, std::mt19937& random) {
  Problem p = layer;
  const ConvGeometry& old = layer.blocking.geometry;
  const int64_t more = static_cast<int64_t>(random() % 3), batch = 1 + static_cast<int64_t>(random() % 3);
  p.blocking = Blocking::make(ConvGeometry::make(old.attributes, batch, old.in_channels, old.in_h + more,
                                                 old.in_w + 2 - more, old.out_channels));
  const ConvGeometry& g = p.blocking.geometry;
  std::normal_distribution<float> normal;
  p.x.resize(static_cast<size_t>(g.batch * g.in_channels * g.in_pixels()));
  for (float& value : p.x) value = normal(random);
  return p;
}

// Draws that share of the elements anew.
void change(Problem& p, std::mt19937& random, double share) {
  std::normal_distribution<float> normal;
  std::bernoulli_distribution changes(share);
  for (float& value : p.x) {
    if (changes(random)) value = normal(random);
  }
}

// One element that is not finite, or none any more.
void spoil(Problem& p, std::mt19937& random) {
  for (float& value : p.x) {
    if (!std::isfinite(value)) value = 0.5f;
  }
  if (random() % 3 == 0 || p.x.empty()) return;
  const float wrong[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()};
  p.x[random() % p.x.size()] = wrong[random() % 2];
}

TEST(streams_are_what_sessions_without_a_history_compute) {
  int64_t updated = 0, anew = 0, recomputed = 0, still = 0;
  for (int seed = 0; seed < 48; ++seed) {
    std::mt19937 random(static_cast<unsigned>(seed));
    Problem p = stream_problem(random, seed);
    PoisonedAllocator allocator;
    const ReusePlan plan = p.plan(allocator);
    ReuseState state(kMuch);
    for (int run = 0; run < 14; ++run) {
      constexpr double kShares[] = {0.0, 0.001, 0.02, 0.1, 0.4, 1.0};
      const unsigned event = static_cast<unsigned>(random() % 12);
      if (event == 0) p = of_size(p, random);
      if (event == 1) state.reset();
      if (event == 2) spoil(p, random);
      if (event > 3) change(p, random, kShares[random() % 6]);
      RunStatistics statistics;
      const std::vector<float> y = run_fused(plan, &state, p, 1 + static_cast<int64_t>(random() % 3), &statistics);
      EXPECT(same_bits(y, run_fused(plan, nullptr, p)), << "run " << run << ", seed " << seed);
      anew += statistics.anew;
      recomputed += statistics.recomputed;
      still += statistics.anew == 0 && statistics.changed == 0 ? 1 : 0;
      updated += statistics.changed > 0 && statistics.recomputed == 0 ? 1 : 0;
    }
  }
  EXPECT(updated > 50 && anew > 50 && recomputed > 0 && still > 50,
         << updated << ", " << anew << ", " << recomputed << ", " << still);
}

// Tiles of a row's pixels, sums that wait for further tables, and more blocks than an int16 has the sums of.
TEST(streams_of_wide_images_with_many_tables) {
  for (const int64_t channels : {14, 300}) {
    std::mt19937 random(3);
    Problem p = channel_problem(random, "learned", 1, channels, 8, 5, 1);
    const ConvGeometry& old = p.blocking.geometry;
    const bool many = channels > 100;
    p.blocking = Blocking::make(ConvGeometry::make(old.attributes, 1, channels, many ? 5 : 41, many ? 9 : 300, 5));
    p.x.resize(static_cast<size_t>(channels * p.blocking.geometry.in_pixels()));
    change(p, random, 1.0);
    make_static(random, p, TableType::kInt8);
    PoisonedAllocator allocator;
    const ReusePlan plan = p.plan(allocator);
    ReuseState state(kMuch);
    for (const double share : {1.0, 0.0, 0.01, 0.2, 0.6}) {
      change(p, random, share);
      EXPECT(same_bits(run_fused(plan, &state, p, 2), run_fused(plan, nullptr, p)), << share << ", " << channels);
    }
  }
}

TEST(streams_tell_what_they_did) {
  std::mt19937 random(4);
  Problem p = static_problem(random);
  const ConvGeometry& g = p.blocking.geometry;
  PoisonedAllocator allocator;
  const ReusePlan plan = p.plan(allocator);
  ReuseState state(kMuch);
  RunStatistics statistics;
  const auto run = [&] {
    run_fused(plan, &state, p, 1, &statistics);
    return state.counts().bytes;
  };
  // Two planes of 16-bit offsets with a border around them, for two blocks, and the sums of 64 channels.
  const int64_t bytes = 2 * 2 * 2 * 11 * 13 + 2 * 64 * g.out_pixels();
  EXPECT(run() == bytes, << state.counts().bytes << " instead of " << bytes);
  EXPECT(statistics.anew == 1 && statistics.changed == 0 && statistics.recomputed == 0);
  run();
  EXPECT(statistics.anew == 0 && statistics.changed == 0 && statistics.recomputed == 0);
  const std::vector<float> before = p.x;
  std::vector<int64_t> codes[2];
  for (int i = 0; i < 2; ++i) {
    Threads parallel(1);
    Workspace workspace(allocator, parallel);
    codes[i] = poisoned<int64_t>(2 * p.blocking.vectors);
    hash(workspace, p.blocking, *p.encoder(allocator), p.x.data(), codes[i].data());
    if (i == 0) change(p, random, 0.02);
  }
  int64_t changed = 0;
  for (size_t v = 0; v < codes[0].size(); ++v) changed += codes[0][v] == codes[1][v] ? 0 : 1;
  run();
  EXPECT(changed > 0 && statistics.changed == changed, << changed << ", " << statistics.changed);
  EXPECT(statistics.anew == 0 && statistics.recomputed == 0);
  for (int i = 0; i < 2; ++i) {
    change(p, random, 1.0);
    run();
    EXPECT(statistics.anew == 0 && statistics.recomputed == g.out_pixels());
  }
  run();  // it goes without, as the last two have gained nothing
  EXPECT(statistics.anew == 1 && statistics.recomputed == 0);
  state.reset();
  EXPECT(state.counts().bytes == 0);
  run();
  EXPECT(statistics.anew == 1);
  run();
  EXPECT(statistics.anew == 0 && statistics.changed == 0);
}

TEST(streams_without_room_for_a_state_have_none) {
  std::mt19937 random(5);
  Problem p = static_problem(random);
  PoisonedAllocator allocator;
  const ReusePlan plan = p.plan(allocator);
  ReuseState enough(kMuch);
  run_fused(plan, &enough, p);
  for (const int64_t less : {0, 1}) {
    ReuseState state(enough.counts().bytes - less);
    RunStatistics statistics;
    for (int run = 0; run < 2; ++run) {
      EXPECT(same_bits(run_fused(plan, &state, p, 2, &statistics), run_fused(plan, nullptr, p)));
    }
    EXPECT(statistics.anew == less && (state.counts().bytes == 0) == (less == 1));
  }
}

TEST(streams_with_runs_at_the_same_time_are_right) {
  std::mt19937 draw(6);
  const Problem layer = static_problem(draw);
  PoisonedAllocator allocator;
  const ReusePlan plan = layer.plan(allocator);
  ReuseState state(kMuch);
  std::atomic<bool> right{true};
  Threads(6).run(6, [&](int64_t t) {
    std::mt19937 random(t);
    Problem p = layer;
    for (int run = 0; run < 12; ++run) {
      change(p, random, 0.05);
      right = right && same_bits(run_fused(plan, &state, p), run_fused(plan, nullptr, p));
      if (t == 0 && run % 4 == 1) state.reset();
    }
  });
  EXPECT(right);
}

// A run that finds the state held goes without, and leaves it alone.
TEST(streams_have_one_run_that_holds_what_the_last_one_left) {
  const LastRunShape shape{1, 2, 3, 10, 10, 40}, other{1, 2, 4, 10, 10, 40};
  ReuseState state(1000);
  const auto leave = [&](const LastRunShape& of) {
    LastRunHold hold(&state, of);
    EXPECT(hold.get() != nullptr && hold.get()->empty);
    hold.leave(true);
  };
  leave(shape);
  EXPECT(state.counts().bytes == shape.bytes());
  {
    LastRunHold hold(&state, shape), second(&state, shape);
    EXPECT(hold.get() != nullptr && second.get() == nullptr);
    second.leave(true);
    hold.leave(true);
  }
  {
    LastRunHold hold(&state, shape);
    EXPECT(!hold.get()->empty);
    state.reset();
    hold.leave(true);
  }
  EXPECT(state.counts().bytes == 0);
  leave(shape);
  {
    LastRunHold failed(&state, shape);
  }
  EXPECT(state.counts().bytes == 0);
  leave(shape);
  LastRunHold hold(&state, other);
  EXPECT(hold.get() != nullptr && hold.get()->empty);
  EXPECT(LastRunHold(nullptr, shape).get() == nullptr);
}

// Runs that gain nothing are followed by 0, 1, 3, 7, 15, 31, 31 that go without, and a run that gains ends it.
TEST(streams_pause_where_everything_changes) {
  const LastRunShape shape{1, 2, 3, 10, 10, 40};
  ReuseState state(1000);
  const auto pause_after = [&](bool was_useful) {
    for (bool found = false; !found;) {
      LastRunHold hold(&state, shape);
      found = !hold.get()->empty;
      hold.leave(was_useful);
    }
    int64_t runs = 0;
    while (runs < 100 && LastRunHold(&state, shape).get() == nullptr) ++runs;
    return runs;
  };
  for (int repeat = 0; repeat < 2; ++repeat) {
    for (const int64_t expected : {0, 1, 3, 7, 15, 31, 31}) {
      const int64_t runs = pause_after(false);
      EXPECT(runs == expected, << runs << " instead of " << expected);
    }
    EXPECT(pause_after(true) == 0);
  }
  pause_after(false);
  {
    LastRunHold(&state, shape).leave(true);
  }
  LastRunHold(&state, shape).leave(false);
  state.reset();
  EXPECT(pause_after(false) == 0);
}

TEST(streams_go_on_after_a_run_that_failed) {
  std::mt19937 random(8);
  Problem p = static_problem(random);
  PoisonedAllocator allocator;
  const ReusePlan plan = p.plan(allocator);
  ReuseState state(kMuch);
  const ConvGeometry& g = p.blocking.geometry;
  int64_t failures = 0;
  for (bool done = false; !done;) {
    run_fused(plan, &state, p);
    change(p, random, 0.02);
    ShortMemory memory(failures);
    InTurn parallel;
    Workspace workspace(memory, parallel);
    std::vector<float> y = poisoned<float>(g.rows() * g.out_channels);
    try {
      reuse_conv(plan, &state, p.blocking, workspace, p.x.data(), y.data());
      done = true;
    } catch (const std::bad_alloc&) {
      ++failures;
      EXPECT(state.counts().bytes == 0, << failures);
      continue;
    }
    EXPECT(same_bits(y, run_fused(plan, nullptr, p)));
    EXPECT(workspace.statistics.anew == 0 && workspace.statistics.changed > 0);
  }
  EXPECT(failures > 0);
}

}  // namespace
}  // namespace reuse::testing
