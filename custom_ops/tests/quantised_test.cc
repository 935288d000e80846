// QLinearReuseConv and ReuseConvInteger against a loop over all taps and channels, bit for bit.
#include "reuse/quantised.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <set>
#include <stdexcept>

#include "support.h"
#include "test.h"

namespace reuse::testing {
namespace {

using Bytes = std::vector<uint8_t>;

struct QuantisedProblem {
  ConvAttributes conv;
  Scope scope = Scope::kBatch;
  int64_t batch = 1, height = 1, width = 1;
  QuantisedOperands operands{};  // weights and bias are those of the vectors below
  bool has_bias = true;
  Bytes x, w;
  std::vector<int32_t> bias;

  QuantisedPlan plan(Allocator& allocator) const {
    QuantisedOperands own = operands;
    own.weights.values = w.data();
    own.bias = has_bias ? bias.data() : nullptr;
    return QuantisedPlan(allocator, conv, scope, own);
  }
};

int32_t value_of(uint8_t byte, bool is_signed) { return is_signed ? static_cast<int8_t>(byte) : byte; }

class Draw {
 public:
  explicit Draw(std::mt19937& random) : random_(random) {}
  int64_t operator()(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(random_); }
  bool coin() { return (*this)(0, 1) == 1; }
  Bytes bytes(int64_t count) {
    Bytes values(static_cast<size_t>(count));
    for (uint8_t& value : values) value = static_cast<uint8_t>((*this)(0, 255));
    return values;
  }
  int32_t zero_point(bool is_signed) {
    const int64_t offsets[] = {0, 255, 127, 128, 7};
    return static_cast<int32_t>(offsets[(*this)(0, 4)]) - (is_signed ? 128 : 0);
  }

 private:
  std::mt19937& random_;
};

// Fills in what the shapes leave open.
void draw_operands(Draw& draw, QuantisedProblem& p, int64_t in_channels, int64_t out_channels) {
  QuantisedOperands& o = p.operands;
  o.in_channels = in_channels;
  o.out_channels = out_channels;
  o.x_signed = draw.coin();
  o.y_signed = draw.coin();
  o.weights.is_signed = draw.coin();
  o.x_zero_point = draw.zero_point(o.x_signed);
  o.y_zero_point = draw.zero_point(o.y_signed);
  const int64_t per_scale = draw.coin() ? 1 : out_channels, per_zero_point = draw.coin() ? 1 : out_channels;
  for (int64_t m = 0; m < per_scale; ++m) o.w_scales.push_back(static_cast<float>(draw(1, 1000)) * 1e-4f);
  const bool symmetric = draw.coin();
  for (int64_t m = 0; m < per_zero_point; ++m) {
    const int32_t middle = o.weights.is_signed ? 0 : 128;
    o.w_zero_points.push_back(symmetric ? middle : draw.zero_point(o.weights.is_signed));
  }
  o.x_scale = static_cast<float>(draw(1, 1000)) * 1e-3f;
  const int64_t columns = in_channels / p.conv.group * p.conv.kernel_h * p.conv.kernel_w;
  // From outputs that are almost all the same to ones that are cut off at both ends.
  const float typical = 1e4f * std::sqrt(static_cast<float>(columns)) * o.x_scale * o.w_scales[0];
  const float spreads[] = {1.0f, 50.0f, 2000.0f};
  o.y_scale = typical / spreads[draw(0, 2)];
  p.has_bias = draw.coin();
  for (int64_t m = 0; m < out_channels; ++m) {
    const int64_t large = draw(0, 9) == 0 ? std::numeric_limits<int32_t>::max() : 5000;
    p.bias.push_back(static_cast<int32_t>(draw(-large, large)));
  }
  p.w = draw.bytes(out_channels * columns);
  const int64_t pixels = p.height * p.width, colours = draw(1, 3) == 1 ? pixels * p.batch : draw(1, 5);
  const Bytes palette = draw.bytes(std::max<int64_t>(colours, 1) * in_channels);
  p.x.resize(static_cast<size_t>(p.batch * in_channels * pixels));
  for (int64_t n = 0; n < p.batch; ++n) {
    for (int64_t pixel = 0; pixel < pixels; ++pixel) {
      const int64_t colour = draw(0, std::max<int64_t>(colours, 1) - 1);
      for (int64_t c = 0; c < in_channels; ++c) {
        p.x[static_cast<size_t>((n * pixels + pixel) * in_channels + c)] =
            palette[static_cast<size_t>(colour * in_channels + c)];
      }
    }
  }
}

QuantisedProblem random_quantised(std::mt19937& random) {
  Draw draw(random);
  QuantisedProblem p;
  ConvAttributes& a = p.conv;
  a.kernel_h = draw(1, 3);
  a.kernel_w = draw(1, 4);
  a.stride_h = draw(1, 2);
  a.stride_w = draw(1, 3);
  a.dilation_h = draw(1, 2);
  a.dilation_w = draw(1, 2);
  a.group = draw(1, 3);
  const AutoPad kinds[] = {AutoPad::kNotSet, AutoPad::kNotSet, AutoPad::kSameUpper, AutoPad::kSameLower,
                           AutoPad::kValid};
  a.auto_pad = kinds[draw(0, 4)];
  if (a.auto_pad == AutoPad::kNotSet) {
    a.pad_top = draw(0, 2);
    a.pad_left = draw(0, 2);
    a.pad_bottom = draw(0, 2);
    a.pad_right = draw(0, 2);
  }
  a.layout = draw.coin() ? Layout::kChannel : Layout::kPatch;
  p.scope = draw.coin() ? Scope::kBatch : Scope::kImage;
  p.batch = draw(0, 3);
  p.height = (a.kernel_h - 1) * a.dilation_h + draw(1, 9);
  p.width = (a.kernel_w - 1) * a.dilation_w + draw(1, 12);
  const int64_t in_channels = a.group * draw(1, 40), out_channels = a.group * draw(1, 150);
  const int64_t width = in_channels / a.group * (a.layout == Layout::kPatch ? a.kernel_h * a.kernel_w : 1);
  a.sub_vector_length = draw.coin() ? width : draw(1, width);
  draw_operands(draw, p, in_channels, out_channels);
  return p;
}

// What the definition of docs/operators.md sums up, an output at a time.
std::vector<int32_t> sums_by_loops(const QuantisedProblem& p, const ConvGeometry& g) {
  const ConvAttributes& a = g.attributes;
  const QuantisedOperands& o = p.operands;
  std::vector<int32_t> sums(static_cast<size_t>(g.rows() * g.out_channels));
  const int64_t channels = g.group_in_channels();
  for (int64_t n = 0; n < g.batch; ++n) {
    for (int64_t m = 0; m < g.out_channels; ++m) {
      const int64_t group = m / g.group_out_channels();
      const auto of = [&](const auto& values) { return values[values.size() == 1 ? 0 : static_cast<size_t>(m)]; };
      for (int64_t pixel = 0; pixel < g.out_pixels(); ++pixel) {
        int64_t sum = p.has_bias ? p.bias[static_cast<size_t>(m)] : 0;
        for (int64_t tap = 0; tap < g.taps(); ++tap) {
          const int64_t row = pixel / g.out_w * a.stride_h - a.pad_top + tap / a.kernel_w * a.dilation_h;
          const int64_t column = pixel % g.out_w * a.stride_w - a.pad_left + tap % a.kernel_w * a.dilation_w;
          if (row < 0 || row >= g.in_h || column < 0 || column >= g.in_w) continue;
          for (int64_t c = 0; c < channels; ++c) {
            const int64_t source = ((n * g.in_h + row) * g.in_w + column) * g.in_channels + group * channels + c;
            const int32_t x = value_of(p.x[static_cast<size_t>(source)], o.x_signed) - o.x_zero_point;
            const uint8_t byte = p.w[static_cast<size_t>((m * channels + c) * g.taps() + tap)];
            sum += x * (value_of(byte, o.weights.is_signed) - of(o.w_zero_points));
          }
        }
        sums[static_cast<size_t>((n * g.out_pixels() + pixel) * g.out_channels + m)] =
            static_cast<int32_t>(static_cast<uint32_t>(sum));
      }
    }
  }
  return sums;
}

template <typename T>
T of_channel(const std::vector<T>& values, size_t channel) {
  return values[values.size() == 1 ? 0 : channel];
}

Bytes by_loops(const QuantisedProblem& p, const ConvGeometry& g) {
  const QuantisedOperands& o = p.operands;
  Bytes y;
  for (const int32_t sum : sums_by_loops(p, g)) {
    const float scale = o.x_scale * of_channel(o.w_scales, y.size() % p.bias.size()) / o.y_scale;
    const int32_t least = o.y_signed ? -128 : 0;
    const auto low = static_cast<float>(least - o.y_zero_point);
    const auto high = static_cast<float>(least + 255 - o.y_zero_point);
    const float limited = std::min(std::max(static_cast<float>(sum) * scale, low), high);
    y.push_back(static_cast<uint8_t>(static_cast<int32_t>(std::nearbyint(limited)) + o.y_zero_point));
  }
  return y;
}

// Of ReuseConvInteger; in place of the bias of integers there is one of floats.
std::vector<float> floats_by_loops(const QuantisedProblem& p, const ConvGeometry& g, const std::vector<float>& bias) {
  QuantisedProblem unbiased = p;
  unbiased.has_bias = false;
  std::vector<float> y;
  for (const int32_t sum : sums_by_loops(unbiased, g)) {
    const size_t channel = y.size() % p.bias.size();
    const float product = static_cast<float>(sum) * of_channel(p.operands.w_scales, channel);
    y.push_back(bias.empty() ? product : product + bias[channel]);
  }
  return y;
}

void run(const QuantisedProblem& p, const QuantisedPlan& plan, PoisonedAllocator& memory, int64_t threads, Bytes& y,
         RunStatistics* statistics = nullptr, ReuseState* state = nullptr) {
  const Blocking blocking = plan.blocking(p.batch, p.height, p.width);
  Threads parallel(threads);
  Workspace workspace(memory, parallel);
  y = poisoned<uint8_t>(blocking.geometry.rows() * blocking.geometry.out_channels * plan.y_bytes());
  qlinear_reuse_conv(plan, state, blocking, workspace, p.x.data(), y.data());
  if (statistics != nullptr) *statistics = workspace.statistics;
}

Bytes run(const QuantisedProblem& p, int64_t threads, RunStatistics* statistics = nullptr,
          ReuseState* state = nullptr) {
  PoisonedAllocator memory;
  Bytes y;
  run(p, p.plan(memory), memory, threads, y, statistics, state);
  EXPECT(memory.held() == 0, << "bytes were not given back");
  return y;
}

ConvGeometry geometry_of(const QuantisedProblem& p) {
  return ConvGeometry::make(p.conv, p.batch, p.operands.in_channels, p.height, p.width, p.operands.out_channels);
}

QuantisedProblem problem_of(ConvAttributes conv, int64_t in_channels, int64_t height, int64_t width,
                            int64_t out_channels, uint32_t seed) {
  std::mt19937 random(seed);
  Draw draw(random);
  QuantisedProblem p;
  p.conv = conv;
  p.height = height;
  p.width = width;
  draw_operands(draw, p, in_channels, out_channels);
  return p;
}

// Of one image in the layout channel, summed over blocks.
int64_t distinct_vectors(const QuantisedProblem& p) {
  const int64_t pixels = p.height * p.width, length = p.conv.sub_vector_length, in_channels = p.operands.in_channels;
  std::set<Bytes> distinct;  // with the block in front
  for (int64_t block = 0; block < p.operands.in_channels / length; ++block) {
    for (int64_t pixel = 0; pixel < pixels; ++pixel) {
      Bytes vector{static_cast<uint8_t>(block)};
      for (int64_t c = block * length; c < (block + 1) * length; ++c) {
        vector.push_back(p.x[static_cast<size_t>(pixel * in_channels + c)]);
      }
      distinct.insert(vector);
    }
  }
  return static_cast<int64_t>(distinct.size());
}

}  // namespace

TEST(quantised_random_problems_are_the_convolution) {
  std::mt19937 random(18);
  for (int i = 0; i < 150; ++i) {
    const QuantisedProblem p = random_quantised(random);
    const Bytes expected = by_loops(p, geometry_of(p));
    for (const int64_t threads : {1, 3}) EXPECT(run(p, threads) == expected, << "in problem " << i);
  }
}

TEST(quantised_random_integers_are_the_convolution) {
  std::mt19937 random(19);
  for (int i = 0; i < 100; ++i) {
    QuantisedProblem p = random_quantised(random);
    std::vector<float> bias;
    if (p.has_bias) bias.assign(p.bias.begin(), p.bias.end());
    PoisonedAllocator memory;
    p.operands.weights.values = p.w.data();
    const IntegerOperands& integers = p.operands;
    const QuantisedPlan plan(memory, p.conv, p.scope, integers);
    // Of one plan runs with several zero points and types of x.
    for (const bool is_signed : {p.operands.x_signed, !p.operands.x_signed}) {
      p.operands.x_signed = is_signed;
      p.operands.x_zero_point = value_of(static_cast<uint8_t>(p.operands.x_zero_point + i), is_signed);
      Bytes y;
      run(p, plan.with(is_signed, p.operands.x_zero_point, p.operands.w_scales, bias.empty() ? nullptr : bias.data()),
          memory, 1 + i % 3, y);
      const std::vector<float> expected = floats_by_loops(p, geometry_of(p), bias);
      EXPECT(y.size() == expected.size() * sizeof(float) &&
                 (y.empty() || std::memcmp(y.data(), expected.data(), y.size()) == 0),
             << "in problem " << i);
    }
  }
}

TEST(quantised_sums_wait_for_the_tables_of_further_blocks) {
  ConvAttributes conv;
  conv.kernel_h = conv.kernel_w = 3;
  conv.pad_top = conv.pad_left = conv.pad_bottom = conv.pad_right = 1;
  conv.sub_vector_length = 64;
  QuantisedProblem p = problem_of(conv, 512, 40, 50, 5, 3);
  std::mt19937 random(4);
  Draw draw(random);
  constexpr int64_t kDistinct = 300;  // in each of 8 blocks, whose tables exceed the cache together
  const Bytes palette = draw.bytes(kDistinct * 64);
  for (size_t vector = 0; vector < p.x.size(); vector += 64) {
    std::copy_n(palette.begin() + draw(0, kDistinct - 1) * 64, 64, p.x.begin() + static_cast<std::ptrdiff_t>(vector));
  }
  RunStatistics statistics;
  EXPECT(run(p, 2, &statistics) == by_loops(p, geometry_of(p)));
  EXPECT(statistics.clusters == distinct_vectors(p) && statistics.guarded == 0);
}

TEST(quantised_sums_beyond_32_bits_wrap) {
  ConvAttributes conv;
  conv.sub_vector_length = 33100;
  QuantisedProblem p = problem_of(conv, 33100, 1, 3, 2, 5);
  p.operands.x_signed = p.operands.weights.is_signed = false;
  p.operands.x_zero_point = 0;
  p.operands.w_zero_points = {255};
  std::fill(p.x.begin(), p.x.end(), uint8_t{255});
  std::fill(p.w.begin(), p.w.end(), uint8_t{0});  // products are -65025
  EXPECT(run(p, 1) == by_loops(p, geometry_of(p)));
}

TEST(quantised_equal_vectors_are_multiplied_once) {
  ConvAttributes conv;
  conv.sub_vector_length = 20;
  QuantisedProblem p = problem_of(conv, 40, 9, 30, 5, 6);
  RunStatistics statistics;
  run(p, 1, &statistics);
  EXPECT(statistics.clusters == distinct_vectors(p) && statistics.guarded == 0);
  EXPECT(statistics.vectors == 2 * p.height * p.width && statistics.blocks == 2);
}

namespace {

constexpr uint64_t kStart = 0x9E3779B97F4A7C15, kFactor = 0xBF58476D1CE4E5B9;

uint64_t fold(uint64_t word) {
  const uint64_t mixed = (kStart ^ word) * kFactor;
  return mixed ^ (mixed >> 29);
}

// The word whose fold is given.
uint64_t unfold(uint64_t folded) {
  const uint64_t mixed = folded ^ (folded >> 29) ^ (folded >> 58);
  uint64_t inverse = kFactor;
  for (int i = 0; i < 6; ++i) inverse *= 2 - kFactor * inverse;  // Newton: twice as many bits each time
  return (mixed * inverse) ^ kStart;
}

}  // namespace

TEST(quantised_crafted_fingerprints_spoil_nothing) {
  ConvAttributes conv;
  conv.sub_vector_length = 16;
  QuantisedProblem p = problem_of(conv, 16, 10, 50, 20, 7);
  p.operands.x_signed = false;
  p.operands.x_zero_point = 3;
  const int64_t pixels = p.height * p.width, in_channels = 16;
  const uint64_t target = (fold(0) * kFactor) ^ fold(0);
  for (int64_t pixel = 0; pixel < pixels; ++pixel) {
    const auto first = static_cast<uint64_t>(pixel % 100);
    const uint64_t words[2] = {first, unfold((fold(first) * kFactor) ^ target)};
    for (int64_t c = 0; c < 16; ++c) {
      p.x[static_cast<size_t>(pixel * in_channels + c)] = static_cast<uint8_t>(words[c / 8] >> (c % 8 * 8));
    }
  }
  RunStatistics statistics;
  EXPECT(run(p, 1, &statistics) == by_loops(p, geometry_of(p)));
  EXPECT(statistics.guarded == pixels - pixels / 100, << statistics.guarded);  // all but the first and its equals
  EXPECT(statistics.clusters == statistics.guarded + 1);
}

TEST(quantised_pixels_that_are_not_there_leave_the_bias) {
  ConvAttributes conv;
  conv.pad_top = conv.pad_bottom = 1;
  QuantisedProblem p = problem_of(conv, 1, 0, 2, 3, 8);
  EXPECT(run(p, 1) == by_loops(p, geometry_of(p)));
  p.batch = 0;
  EXPECT(run(p, 1).empty());
}

namespace {

// A hash of the problem's vectors.
Problem random_hash(std::mt19937& random, const QuantisedProblem& p) {
  Problem h;
  h.blocking = Blocking::make(geometry_of(p));
  h.hash = {&find_hash_family(random() % 3 == 0 ? "sign" : "learned"), static_cast<int64_t>(1 + random() % 9)};
  draw_parameters(random, h);
  for (float& threshold : h.thresholds) threshold *= 64.0f * p.operands.x_scale;
  return h;
}

Bytes run(const QuantisedProblem& p, const Problem& hash, int64_t threads, RunStatistics* statistics = nullptr) {
  PoisonedAllocator memory;
  Bytes y;
  {
    QuantisedOperands operands = p.operands;
    operands.weights.values = p.w.data();
    operands.bias = p.has_bias ? p.bias.data() : nullptr;
    const CodedBytePlan plan(memory, operands, {p.conv, p.scope, hash.hash, hash.parameters(), hash.sizes()});
    const Blocking blocking = plan.blocking(p.batch, p.height, p.width);
    Threads parallel(threads);
    Workspace workspace(memory, parallel);
    y = poisoned<uint8_t>(blocking.geometry.rows() * blocking.geometry.out_channels);
    qlinear_reuse_conv(plan, nullptr, blocking, workspace, p.x.data(), y.data());
    if (statistics != nullptr) *statistics = workspace.statistics;
  }
  EXPECT(memory.held() == 0, << "bytes were not given back");
  return y;
}

// Puts centroids in the place of all vectors of a layer of layout channel: means of vectors of a scope unit whose codes
// are equal. Returns how many there are.
int64_t replace_by_centroids(const Problem& hash, QuantisedProblem& p) {
  const ConvGeometry g = geometry_of(p);
  const Blocking& blocking = hash.blocking;
  PoisonedAllocator memory;
  const std::unique_ptr<Encoder> encoder = hash.encoder(memory);
  std::vector<float> values(static_cast<size_t>(blocking.sub_vector_length() * kTileVectors)),
      scratch(static_cast<size_t>(encoder->scratch_floats()));
  int64_t clusters = 0;
  for (int64_t block = 0; block < blocking.num_blocks(); ++block) {
    const int64_t length = blocking.block_length(block);
    const auto byte = [&](int64_t vector, int64_t l) -> uint8_t& {
      return p.x[static_cast<size_t>(vector * g.in_channels + blocking.first_channel(block) + l)];
    };
    std::map<std::pair<int64_t, int64_t>, std::vector<int64_t>> members;  // by unit and code
    for (int64_t v = 0; v < blocking.vectors; ++v) {
      for (int64_t l = 0; l < length; ++l) {
        const int32_t steps = value_of(byte(v, l), p.operands.x_signed) - p.operands.x_zero_point;
        values[static_cast<size_t>(l * kTileVectors)] = static_cast<float>(steps) * p.operands.x_scale;
      }
      int64_t code = 0;
      encoder->codes({values.data(), kTileVectors, length, 1}, block, scratch.data(), &code);
      members[{p.scope == Scope::kImage ? v / g.in_pixels() : 0, code}].push_back(v);
    }
    clusters += static_cast<int64_t>(members.size());
    for (const auto& [_, own] : members) {
      for (int64_t l = 0; l < length; ++l) {
        double sum = 0.0;
        for (const int64_t v : own) sum += value_of(byte(v, l), p.operands.x_signed);
        const double mean = std::nearbyint(sum / static_cast<double>(own.size()));
        for (const int64_t v : own) byte(v, l) = static_cast<uint8_t>(static_cast<int32_t>(mean));
      }
    }
  }
  return clusters;
}

// Makes y, by the definition, of those images of an input all of whose vectors are centroids.
void code_by_loops(const QuantisedProblem& p, const Blocking& blocking, int64_t first, int64_t last, Bytes& y) {
  const ConvGeometry& g = blocking.geometry;
  const ConvAttributes& a = g.attributes;
  const QuantisedOperands& o = p.operands;
  const int64_t taps = g.taps(), blocks = blocking.blocks_per_group;
  const int32_t least = o.y_signed ? -128 : 0;
  for (int64_t m = 0; m < g.out_channels; ++m) {
    const auto of = [&](const auto& values) { return values[values.size() == 1 ? 0 : static_cast<size_t>(m)]; };
    const int64_t first_block = m / g.group_out_channels() * blocks;
    std::vector<float> products;  // by block, pixel and tap
    double most = 0.0;
    for (int64_t b = first_block; b < first_block + blocks; ++b) {
      std::vector<float> largest(static_cast<size_t>(taps), 0.0f);
      for (int64_t pixel = first * g.in_pixels(); pixel < last * g.in_pixels(); ++pixel) {
        for (int64_t tap = 0; tap < taps; ++tap) {
          int32_t sum = 0;
          for (int64_t l = 0; l < blocking.block_length(b); ++l) {
            const int64_t c = blocking.block_start(b) + l;
            const uint8_t x = p.x[static_cast<size_t>(pixel * g.in_channels + blocking.first_channel(b) + l)];
            const uint8_t w = p.w[static_cast<size_t>((m * g.group_in_channels() + c) * taps + tap)];
            sum +=
                (value_of(x, o.x_signed) - o.x_zero_point) * (value_of(w, o.weights.is_signed) - of(o.w_zero_points));
          }
          products.push_back(static_cast<float>(sum));
          float& own = largest[static_cast<size_t>(tap)];
          own = std::max(own, std::fabs(products.back()));
        }
      }
      for (int64_t row = 0; row < taps; row += a.kernel_w) {
        for (int64_t tap = 0; tap < a.kernel_w; tap += 3) {
          double sum = 0.0;
          for (int64_t t = tap; t < std::min(tap + 3, a.kernel_w); ++t) sum += largest[static_cast<size_t>(row + t)];
          most = std::max(most, sum);
        }
      }
    }
    const float inverse = most == 0.0 ? 0.0f : static_cast<float>(125.0 / most);
    const float scale = static_cast<float>(most / 125.0) * (o.x_scale * of(o.w_scales));
    const float bias =
        p.has_bias ? static_cast<float>(p.bias[static_cast<size_t>(m)]) * o.x_scale * of(o.w_scales) : 0.0f;
    for (int64_t pixel = first * g.out_pixels(); pixel < last * g.out_pixels(); ++pixel) {
      int64_t sum = 0;
      for (int64_t tap = 0; tap < taps; ++tap) {
        const int64_t row =
            pixel % g.out_pixels() / g.out_w * a.stride_h - g.attributes.pad_top + tap / a.kernel_w * a.dilation_h;
        const int64_t column = pixel % g.out_w * a.stride_w - g.attributes.pad_left + tap % a.kernel_w * a.dilation_w;
        if (row < 0 || row >= g.in_h || column < 0 || column >= g.in_w) continue;
        const int64_t source = (pixel / g.out_pixels() - first) * g.in_pixels() + row * g.in_w + column;
        for (int64_t b = 0; b < blocks; ++b) {
          const int64_t index = (b * (last - first) * g.in_pixels() + source) * taps + tap;
          sum += static_cast<int64_t>(std::nearbyint(products[static_cast<size_t>(index)] * inverse));
        }
      }
      const float value = (static_cast<float>(sum) * scale + bias) * (1.0f / o.y_scale);
      const auto low = static_cast<float>(least - o.y_zero_point), high = low + 255.0f;
      const auto rounded = static_cast<int32_t>(std::nearbyint(std::min(std::max(value, low), high)));
      y[static_cast<size_t>(pixel * g.out_channels + m)] = static_cast<uint8_t>(rounded + o.y_zero_point);
    }
  }
}

}  // namespace

TEST(quantised_codes_make_clusters_with_tables_of_int8) {
  std::mt19937 random(20);
  int64_t merged = 0;
  for (int i = 0; i < 80; ++i) {
    QuantisedProblem p = random_quantised(random);
    p.conv.layout = Layout::kChannel;
    p.conv.sub_vector_length = std::min(p.conv.sub_vector_length, p.operands.in_channels / p.conv.group);
    const Problem hash = random_hash(random, p);
    RunStatistics statistics;
    const Bytes once = run(p, hash, 1, &statistics), threaded = run(p, hash, 3);
    const int64_t vectors = hash.blocking.num_blocks() * hash.blocking.vectors;
    EXPECT(statistics.vectors == vectors && statistics.guarded == 0);
    const int64_t clusters = replace_by_centroids(hash, p);
    Bytes expected = once;
    const int64_t together = p.scope == Scope::kImage ? 1 : p.batch;
    for (int64_t n = 0; n < p.batch; n += together) code_by_loops(p, hash.blocking, n, n + together, expected);
    EXPECT(once == expected && threaded == expected, << "in problem " << i);
    EXPECT(once.empty() || statistics.clusters == clusters, << statistics.clusters << " clusters in problem " << i);
    merged += clusters > hash.blocking.num_blocks() && clusters < vectors ? 1 : 0;
  }
  EXPECT(merged > 30, << merged);
}

TEST(quantised_codes_that_make_no_sense_are_refused) {
  QuantisedProblem p = problem_of({}, 1, 4, 4, 3, 9);
  std::mt19937 random(1);
  Problem hash = random_hash(random, p);
  const auto refused = [&](const char* part) { expect_throw<std::invalid_argument>(part, [&] { run(p, hash, 1); }); };
  hash.hash = {&find_hash_family("exact"), 1};
  refused("clusters by code need");
  hash.hash = {&find_hash_family("sign"), 17};
  refused("at most 16 hashes, not sign and 17");
  p.scope = Scope::kSession;
  hash = random_hash(random, p);
  refused("scope must be batch, image or static");
  p.scope = Scope::kBatch;
  p.conv.layout = Layout::kPatch;
  refused("layout");
  p.conv = {};
  p.operands.w_scales = {1e20f};
  p.operands.x_scale = 1e5f;
  refused("sums stand for infinities in output channel 0");
  p = problem_of({}, 1, 4096, 4097, 1, 9);
  hash = random_hash(random, p);
  refused("more than 2^24 vectors");
}

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

TEST(quantised_operands_that_make_no_sense_are_refused) {
  ConvAttributes conv;
  const QuantisedProblem good = problem_of(conv, 2, 4, 4, 3, 9);
  PoisonedAllocator memory;
  const auto refused = [&](const char* part, const auto& change) {
    QuantisedProblem p = good;
    change(p.operands);
    expect_throw<std::invalid_argument>(part, [&] { static_cast<void>(p.plan(memory)); });
  };
  for (const float scale :
       {0.0f, -1.0f, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    refused("x_scale holds", [&](QuantisedOperands& o) { o.x_scale = scale; });
    refused("y_scale holds", [&](QuantisedOperands& o) { o.y_scale = scale; });
    refused("w_scale holds", [&](QuantisedOperands& o) { o.w_scales = {1.0f, scale, 1.0f}; });
  }
  refused("is not finite in output channel 0", [](QuantisedOperands& o) {
    o.x_scale = 1e30f;
    o.w_scales = {1e30f};
  });
  refused("w_scale has 2 elements, needs 1 or 3", [](QuantisedOperands& o) { o.w_scales = {1.0f, 1.0f}; });
  refused("w_zero_point has 0 elements", [](QuantisedOperands& o) { o.w_zero_points = {}; });
  QuantisedProblem session = good;
  session.scope = Scope::kSession;
  expect_throw<std::invalid_argument>("scope", [&] { static_cast<void>(session.plan(memory)); });
}

}  // namespace reuse::testing
