// QLinearReuseConv with a hash: clusters of the batch or of an image, against loops, bit for bit.
#include <algorithm>
#include <cmath>
#include <map>
#include <stdexcept>

#include "quantised_problem.h"
#include "test.h"

namespace reuse::testing {
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

}  // namespace reuse::testing
