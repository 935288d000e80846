// The backward pass against the papers' equations in float64, on random convolutions of all kinds.
#include <cmath>

#include "reuse/training.h"
#include "support.h"
#include "test.h"

namespace reuse::testing {
namespace {

struct Found {
  std::vector<float> weights, x;
};

Clusters cluster_of(const Problem& p, Workspace& workspace, const std::vector<float>& x) {
  return hash_and_cluster(workspace, p.blocking, *p.encoder(workspace), p.cluster, x.data());
}

int64_t weights_of(const ConvGeometry& g) { return g.out_channels * g.group_in_channels() * g.taps(); }

Found run_backward(const Problem& p, const std::vector<float>& dy, int64_t threads) {
  const ConvGeometry& g = p.blocking.geometry;
  PoisonedAllocator allocator;
  Threads parallel(threads);
  RunStatistics statistics;
  Found found{poisoned<float>(weights_of(g)), poisoned<float>(static_cast<int64_t>(p.x.size()))};
  const bool pixel_major = g.attributes.input_order == DataOrder::kNhwc;
  {
    Workspace workspace(allocator, parallel);
    const std::vector<float> x = pixel_major ? reordered(p.x, g.batch, g.in_channels, g.in_pixels()) : p.x;
    const std::vector<float> own = pixel_major ? reordered(dy, g.batch, g.out_channels, g.out_pixels()) : dy;
    const Clusters clusters = cluster_of(p, workspace, x);
    backward(workspace, p.blocking, clusters, p.w.data(), own.data(), {found.weights.data(), found.x.data()});
  }
  EXPECT(allocator.held() == 0);
  if (pixel_major) found.x = reordered(found.x, g.batch, g.in_pixels(), g.in_channels);
  return found;
}

// One neuron vector's element that an output pixel reads: where it is in the block, and in the input (-1: padding).
struct Read {
  int64_t block, element, vector, input, weight;
};

// Calls visit(output index, read) for all that the convolution multiplies.
template <typename Visit>
void for_each_read(const Problem& p, const Visit& visit) {
  const ConvGeometry& g = p.blocking.geometry;
  const ConvAttributes& a = g.attributes;
  const int64_t in = g.group_in_channels(), length = p.blocking.sub_vector_length();
  const bool patch = p.blocking.layout() == Layout::kPatch;
  for (int64_t n = 0; n < g.batch; ++n) {
    for (int64_t m = 0; m < g.out_channels; ++m) {
      const int64_t group = m / g.group_out_channels();
      for (int64_t pixel = 0; pixel < g.out_pixels(); ++pixel) {
        for (int64_t tap = 0; tap < g.taps(); ++tap) {
          const int64_t row = pixel / g.out_w * a.stride_h - a.pad_top + tap / a.kernel_w * a.dilation_h;
          const int64_t column = pixel % g.out_w * a.stride_w - a.pad_left + tap % a.kernel_w * a.dilation_w;
          const bool inside = row >= 0 && row < g.in_h && column >= 0 && column < g.in_w;
          if (!inside && !patch) continue;
          for (int64_t c = 0; c < in; ++c) {
            const int64_t position = patch ? tap * in + c : c;
            const int64_t vector = patch ? n * g.out_pixels() + pixel : n * g.in_pixels() + row * g.in_w + column;
            const int64_t channel = group * in + c;
            visit((n * g.out_channels + m) * g.out_pixels() + pixel,
                  Read{group * p.blocking.blocks_per_group + position / length, position % length, vector,
                       inside ? ((n * g.in_channels + channel) * g.in_h + row) * g.in_w + column : -1,
                       (m * in + c) * g.taps() + tap});
          }
        }
      }
    }
  }
}

// Eq. 8-10 and 13-18: a read's value is its centroid's, and its delta the mean over the members of its cluster.
Found expected(const Problem& p, const std::vector<float>& dy) {
  PoisonedAllocator allocator;
  Threads parallel(1);
  Workspace workspace(allocator, parallel);
  Problem plain = p;
  plain.blocking.geometry.attributes.input_order = DataOrder::kNchw;
  const Clusters clusters = cluster_of(plain, workspace, p.x);
  const int64_t length = p.blocking.sub_vector_length(), vectors = p.blocking.vectors;
  std::vector<double> weights(p.w.size()), x(p.x.size());
  std::vector<std::vector<double>> deltas;
  deltas.reserve(clusters.blocks.size());
  for (const BlockClusters& own : clusters.blocks) deltas.emplace_back(static_cast<size_t>(own.count * length));
  const auto id = [&](const Read& read) { return clusters.ids[read.block * vectors + read.vector]; };
  for_each_read(p, [&](int64_t output, const Read& read) {
    const BlockClusters& own = clusters.blocks[read.block];
    weights[read.weight] += static_cast<double>(own.centroids[id(read) * length + read.element]) * dy[output];
    deltas[read.block][id(read) * length + read.element] +=
        static_cast<double>(p.w[read.weight]) * dy[output] / own.members[id(read)];
  });
  // Each element of a vector is passed on to its place once, however many output channels and taps read it.
  std::vector<bool> done(p.x.size() * (p.blocking.layout() == Layout::kPatch ? p.blocking.geometry.taps() : 1));
  const int64_t per_group = p.blocking.geometry.group_out_channels() * p.blocking.geometry.out_pixels();
  for_each_read(p, [&](int64_t output, const Read& read) {
    const bool first_channel =
        output / p.blocking.geometry.out_pixels() % p.blocking.geometry.group_out_channels() == 0;
    if (read.input < 0 || !first_channel || per_group == 0) return;
    if (p.blocking.layout() == Layout::kChannel) {
      if (done[read.input]) return;
      done[read.input] = true;
    }
    x[read.input] += deltas[read.block][id(read) * length + read.element];
  });
  return {std::vector<float>(weights.begin(), weights.end()), std::vector<float>(x.begin(), x.end())};
}

// Channel-layout pixels that no output reads have deltas too, those of their cluster, which the loop over reads misses.
bool all_pixels_read(const Problem& p) {
  std::vector<bool> seen(p.x.size());
  for_each_read(p, [&](int64_t, const Read& read) {
    if (read.input >= 0) seen[read.input] = true;
  });
  return p.blocking.layout() == Layout::kPatch || std::find(seen.begin(), seen.end(), false) == seen.end();
}

double relative_error(const std::vector<float>& found, const std::vector<float>& wanted) {
  double error = 0.0, norm = 0.0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    error += std::pow(static_cast<double>(found[i]) - wanted[i], 2);
    norm += std::pow(static_cast<double>(wanted[i]), 2);
  }
  return norm > 0.0 ? std::sqrt(error / norm) : std::sqrt(error);
}

void check(const Problem& p, const std::vector<float>& dy, unsigned seed) {
  const Found wanted = expected(p, dy), found = run_backward(p, dy, 1);
  EXPECT(relative_error(found.weights, wanted.weights) < 1e-5,
         << "weights, seed " << seed << ": " << relative_error(found.weights, wanted.weights));
  if (all_pixels_read(p)) {
    EXPECT(relative_error(found.x, wanted.x) < 1e-5,
           << "x, seed " << seed << ": " << relative_error(found.x, wanted.x));
  }
}

TEST(gradients_are_those_of_the_equations) {
  for (unsigned seed = 0; seed < 80; ++seed) {
    std::mt19937 random(seed);
    const Problem p = random_problem(random, family_of(seed));
    check(p, random_deltas(random, p.blocking.geometry), seed);
  }
}

TEST(gradients_of_pixel_major_data_are_the_same) {
  for (const int64_t length : {5, 16, 20, 48}) {
    std::mt19937 random(static_cast<unsigned>(length));
    Problem p = channel_problem(random, "sign", length);
    const std::vector<float> dy = random_deltas(random, p.blocking.geometry);
    const Found planes = run_backward(p, dy, 1);
    check(p, dy, static_cast<unsigned>(length));
    ConvAttributes& a = p.blocking.geometry.attributes;
    a.input_order = a.output_order = DataOrder::kNhwc;
    const Found pixels = run_backward(p, dy, 1);
    EXPECT(planes.weights == pixels.weights);
    EXPECT(planes.x == pixels.x);
  }
}

TEST(gradients_do_not_depend_on_the_threads) {
  for (unsigned seed = 0; seed < 12; ++seed) {
    std::mt19937 random(seed);
    const Problem p = random_problem(random, "sign");
    const std::vector<float> dy = random_deltas(random, p.blocking.geometry);
    const Found one = run_backward(p, dy, 1), four = run_backward(p, dy, 4);
    EXPECT(one.weights == four.weights);
    EXPECT(one.x == four.x);
  }
}

TEST(an_empty_batch_has_a_weight_gradient_of_zero) {
  ConvAttributes a;
  a.kernel_h = a.kernel_w = 3;
  a.sub_vector_length = 2;
  Problem p;
  p.blocking = Blocking::make(ConvGeometry::make(a, 0, 4, 5, 5, 6));
  p.hash = {&find_hash_family("exact"), 1};
  p.cluster.verify = true;
  p.w.assign(6 * 4 * 9, 1.0f);
  for (const float value : run_backward(p, {}, 1).weights) EXPECT(value == 0.0f);
}

}  // namespace
}  // namespace reuse::testing
