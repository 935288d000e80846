#include "session_support.h"

#include <cmath>
#include <limits>

#include "test.h"

namespace reuse::testing {

Problem of_input(const Problem& layer, std::mt19937& random, bool spoil) {
  Problem p = layer;
  const ConvGeometry& old = p.blocking.geometry;
  const int64_t batch = 1 + static_cast<int64_t>(random() % 3), grown = static_cast<int64_t>(random() % 3);
  p.blocking = Blocking::make(ConvGeometry::make(old.attributes, batch, old.in_channels, old.in_h + grown,
                                                 old.in_w + 2 - grown, old.out_channels));
  const ConvGeometry& g = p.blocking.geometry;
  std::normal_distribution<float> normal;
  std::mt19937 always(7);
  std::vector<float> palette(static_cast<size_t>(8 * g.in_channels));
  for (float& value : palette) value = normal(always);
  p.x.resize(static_cast<size_t>(g.batch * g.in_channels * g.in_pixels()));
  for (int64_t n = 0; n < g.batch; ++n) {
    for (int64_t pixel = 0; pixel < g.in_pixels(); ++pixel) {
      const int64_t pick = static_cast<int64_t>(random() % 10);
      for (int64_t c = 0; c < g.in_channels; ++c) {
        float& value = p.x[static_cast<size_t>((n * g.in_channels + c) * g.in_pixels() + pixel)];
        value = pick < 8 ? palette[static_cast<size_t>(pick * g.in_channels + c)] : normal(random);
      }
    }
  }
  if (spoil) {
    p.x[random() % p.x.size()] = std::numeric_limits<float>::quiet_NaN();
    p.x[random() % p.x.size()] = -std::numeric_limits<float>::infinity();
  }
  return p;
}

int64_t cluster_bytes(const Problem& p, bool fused) {
  return 4 * (p.blocking.sub_vector_length() + (fused ? p.blocking.table_width() : 0));
}

bool close(const std::vector<float>& actual, const std::vector<float>& expected) {
  double scale = 1.0;
  for (const float value : expected) scale = std::isfinite(value) ? std::max<double>(scale, std::fabs(value)) : scale;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (std::isfinite(expected[i]) != std::isfinite(actual[i])) return false;
    if (std::isfinite(expected[i]) && std::fabs(actual[i] - expected[i]) > 1e-5 * scale) return false;
  }
  return actual.size() == expected.size();
}

std::vector<float> convolved(const Problem& p, const Clusters& clusters) {
  const ConvGeometry& g = p.blocking.geometry;
  PoisonedAllocator allocator;
  Threads parallel(1);
  Workspace workspace(allocator, parallel);
  int64_t capacity = 1;
  for (const BlockClusters& block : clusters.blocks) capacity = std::max(capacity, block.count);
  const int64_t blocks = p.blocking.num_blocks(), length = p.blocking.sub_vector_length();
  std::vector<float> centroids(static_cast<size_t>(blocks * capacity * length));
  std::vector<int32_t> counts;
  for (int64_t b = 0; b < blocks; ++b) {
    const BlockClusters& own = clusters.blocks[static_cast<size_t>(b)];
    std::copy_n(own.centroids.data(), own.count * length, centroids.data() + b * capacity * length);
    counts.push_back(static_cast<int32_t>(own.count));
  }
  std::vector<float> table(static_cast<size_t>(blocks * capacity * p.blocking.table_width()));
  centroid_gemm(workspace, p.blocking, p.w.data(), centroids.data(), counts.data(), capacity, table.data());
  std::vector<float> y(static_cast<size_t>(g.rows() * g.out_channels));
  gather(workspace, p.blocking, p.gather, table.data(), capacity, clusters.ids.data(),
         p.bias.empty() ? nullptr : p.bias.data(), y.data());
  return y;
}

std::vector<int64_t> codes_of(const Problem& p) {
  PoisonedAllocator allocator;
  Threads parallel(1);
  Workspace workspace(allocator, parallel);
  std::vector<int64_t> codes = poisoned<int64_t>(p.blocking.num_blocks() * p.blocking.vectors);
  hash(workspace, p.blocking, *p.encoder(allocator), p.x.data(), codes.data());
  return codes;
}

}  // namespace reuse::testing
