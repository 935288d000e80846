// QLinearReuseConv of streams: what a node keeps never changes a result.
#include <algorithm>
#include <atomic>

#include "quantised_problem.h"
#include "test.h"

namespace reuse::testing {
namespace {

constexpr int64_t kMuch = int64_t{1} << 30;

// Draws that share of the pixels anew.
void change(QuantisedProblem& p, std::mt19937& random, double share) {
  std::bernoulli_distribution changes(share);
  Draw draw(random);
  const int64_t channels = p.operands.in_channels;
  for (size_t first = 0; first < p.x.size(); first += static_cast<size_t>(channels)) {
    if (!changes(random)) continue;
    const Bytes pixel = draw.bytes(channels);
    std::copy(pixel.begin(), pixel.end(), p.x.begin() + static_cast<std::ptrdiff_t>(first));
  }
}

// The same layer with an input of another size.
void resize(QuantisedProblem& p, std::mt19937& random) {
  Draw draw(random);
  p.batch = draw(1, 3);
  p.height += draw(0, 1);
  p.width += draw(0, 1);
  p.x = draw.bytes(p.batch * p.height * p.width * p.operands.in_channels);
}

QuantisedProblem small_layer() {
  ConvAttributes conv;
  conv.kernel_h = conv.kernel_w = 3;
  conv.pad_top = conv.pad_left = conv.pad_bottom = conv.pad_right = 1;
  conv.sub_vector_length = 16;
  return problem_of(conv, 32, 9, 20, 24, 11);
}

}  // namespace

TEST(streams_of_bytes_are_what_sessions_without_a_history_compute) {
  int64_t anew = 0, still = 0, recomputed = 0, searches = 0;
  for (uint32_t seed = 0; seed < 60; ++seed) {
    std::mt19937 random(seed);
    QuantisedProblem p = random_quantised(random);
    ReuseState state(kMuch);
    for (int i = 0; i < 14; ++i) {
      constexpr double kShares[] = {0.0, 0.02, 0.1, 0.4, 1.0};
      const auto event = static_cast<unsigned>(random() % 12);
      if (event == 0) resize(p, random);
      if (event == 1) state.reset();
      if (event > 2) change(p, random, kShares[random() % 5]);
      RunStatistics statistics;
      const Bytes y = run(p, 1 + static_cast<int64_t>(random() % 3), &statistics, &state);
      EXPECT(y == run(p, 1), << "run " << i << ", seed " << seed);
      anew += statistics.anew;
      recomputed += statistics.anew == 0 && statistics.recomputed > 0 ? 1 : 0;
      still += statistics.anew == 0 && statistics.recomputed == 0 && !y.empty() ? 1 : 0;
      searches += statistics.clusters > 0 ? 1 : 0;
    }
  }
  EXPECT(anew > 50 && still > 50 && recomputed > 50 && searches > 50,
         << anew << ", " << still << ", " << recomputed << ", " << searches);
}

TEST(streams_of_bytes_tell_what_they_did) {
  QuantisedProblem p = small_layer();
  ReuseState state(kMuch);
  RunStatistics statistics;
  run(p, 1, &statistics, &state);
  EXPECT(statistics.anew == 1 && statistics.changed == 0 && statistics.recomputed == 0);
  EXPECT(state.counts().bytes == p.height * p.width * (32 + 24), << state.counts().bytes);
  p.x[static_cast<size_t>((4 * p.width + 7) * 32 + 5)] ^= 1;  // a pixel of two blocks, that 3 x 3 windows see
  run(p, 1, &statistics, &state);
  EXPECT(statistics.anew == 0 && statistics.changed == 2 && statistics.recomputed == 9);
  p.x[0] ^= 1;
  run(p, 1, &statistics, &state);
  EXPECT(statistics.changed == 2 && statistics.recomputed == 4);
  const auto change_all = [&] {
    for (uint8_t& byte : p.x) byte ^= 1;
    run(p, 1, &statistics, &state);
    EXPECT(statistics.anew == 0 && statistics.recomputed == p.height * p.width);
  };
  // What a run computes as a whole is there for the next one, unless it is the second of its kind.
  change_all();
  EXPECT(run(p, 1, &statistics, &state) == run(p, 1));
  EXPECT(statistics.anew == 0 && statistics.recomputed == 0);
  change_all();
  change_all();
  run(p, 1, &statistics, &state);
  EXPECT(statistics.anew == 1);
  ReuseState small(p.height * p.width * (32 + 24) - 1);
  for (int i = 0; i < 2; ++i) {
    EXPECT(run(p, 1, &statistics, &small) == run(p, 1));
    EXPECT(statistics.anew == 1 && small.counts().bytes == 0);
  }
}

TEST(streams_of_bytes_may_be_several_at_once) {
  const QuantisedProblem layer = small_layer();
  ReuseState state(kMuch);
  std::atomic<int> wrong{0};
  Threads(4).run(4, [&](int64_t seed) {
    std::mt19937 random(seed);
    QuantisedProblem p = layer;
    for (int i = 0; i < 40; ++i) {
      change(p, random, i % 10 == 0 ? 1.0 : 0.02);
      if (i % 17 == 0) state.reset();
      if (run(p, 1, nullptr, &state) != run(p, 1)) ++wrong;
    }
  });
  EXPECT(wrong == 0, << wrong);
}

}  // namespace reuse::testing
