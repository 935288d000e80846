#include "support.h"

#include <algorithm>

#include "test.h"

namespace reuse::testing {
namespace {

int64_t draw(std::mt19937& random, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random);
}

std::vector<float> normal(std::mt19937& random, int64_t count) {
  std::normal_distribution<float> distribution;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = distribution(random);
  return values;
}

Blocking random_blocking(std::mt19937& random) {
  ConvAttributes a;
  a.kernel_h = draw(random, 1, 4);
  a.kernel_w = draw(random, 1, 4);
  a.stride_h = draw(random, 1, 3);
  a.stride_w = draw(random, 1, 3);
  a.dilation_h = draw(random, 1, 2);
  a.dilation_w = draw(random, 1, 2);
  a.pad_top = draw(random, 0, 2);
  a.pad_left = draw(random, 0, 2);
  a.pad_bottom = draw(random, 0, 2);
  a.pad_right = draw(random, 0, 2);
  a.group = draw(random, 1, 2);
  a.layout = draw(random, 0, 1) == 0 ? Layout::kPatch : Layout::kChannel;
  const int64_t channels = draw(random, 1, 7);
  const int64_t width = a.layout == Layout::kPatch ? channels * a.kernel_h * a.kernel_w : channels;
  a.sub_vector_length = draw(random, 1, width);
  const int64_t height = (a.kernel_h - 1) * a.dilation_h + draw(random, 1, 12);
  const int64_t columns = (a.kernel_w - 1) * a.dilation_w + draw(random, 1, 12);
  return Blocking::make(
      ConvGeometry::make(a, draw(random, 1, 3), channels * a.group, height, columns, a.group * draw(random, 1, 70)));
}

}  // namespace

void draw_parameters(std::mt19937& random, Problem& p) {
  const int64_t length = p.blocking.sub_vector_length();
  const HashShape shape{p.blocking.num_blocks(), length, p.hash.num_hashes};
  const HashParameterSizes needed = p.hash.family->required(shape), possible = p.hash.family->optional(shape);
  const bool all = draw(random, 0, 1) == 0;
  const auto size = [&](int64_t must, int64_t may) { return std::max<int64_t>(0, must < 0 && all ? may : must); };
  p.projections = normal(random, size(needed.projections, possible.projections));
  p.thresholds = normal(random, size(needed.thresholds, possible.thresholds));
  p.coordinates.resize(static_cast<size_t>(size(needed.coordinates, possible.coordinates)));
  for (int32_t& coordinate : p.coordinates) coordinate = static_cast<int32_t>(draw(random, 0, length - 1));
}

HashParameterSizes Problem::sizes() const {
  const auto size = [](const auto& values) {
    return values.empty() ? int64_t{-1} : static_cast<int64_t>(values.size());
  };
  return {size(projections), size(thresholds), size(coordinates)};
}

std::unique_ptr<Encoder> Problem::encoder(Allocator& allocator) const {
  return make_encoder(allocator, hash, blocking.num_blocks(), blocking.sub_vector_length(), parameters(), sizes());
}

ReusePlan Problem::plan(Allocator& allocator) const {
  const ConvGeometry& g = blocking.geometry;
  ReusePlan result({g.attributes, hash, cluster, gather, table, keep_tables});
  if (cluster.scope == Scope::kStatic) {
    result.set_static(g.in_channels, g.out_channels, w.data(), centroids.data(),
                      static_cast<int64_t>(centroids.size()));
  } else {
    result.set_weights(allocator, g.in_channels, g.out_channels, w.data());
  }
  result.set_bias(bias.empty() ? nullptr : bias.data(), static_cast<int64_t>(bias.size()));
  result.set_hash(allocator, parameters(), sizes());
  return result;
}

HashParameters Problem::parameters() const {
  HashParameters result;
  if (!projections.empty()) result.projections = projections.data();
  if (!thresholds.empty()) result.thresholds = thresholds.data();
  if (!coordinates.empty()) result.coordinates = coordinates.data();
  return result;
}

const char* family_of(int64_t seed) {
  std::mt19937 random(static_cast<unsigned>(seed));
  return hash_families()[random() % hash_families().size()]->name();
}

Problem random_problem(std::mt19937& random, const char* family) {
  Problem p;
  p.blocking = random_blocking(random);
  const ConvGeometry& g = p.blocking.geometry;
  p.hash.family = &find_hash_family(family);
  p.hash.num_hashes = draw(random, 1, std::string(family) == "learned" ? 8 : 40);
  p.cluster.scope = draw(random, 0, 1) == 0 ? Scope::kImage : Scope::kBatch;
  p.cluster.metric = draw(random, 0, 1) == 0 ? Metric::kEuclidean : Metric::kAngular;
  p.cluster.capacity = draw(random, 0, 1) == 0 ? 1.0f : 0.2f;
  p.cluster.verify = p.hash.family->is_lossless();
  p.x = normal(random, g.batch * g.in_channels * g.in_pixels());
  // Few distinct values make vectors repeat.
  if (draw(random, 0, 1) == 0) {
    for (float& value : p.x) value = value > 0.0f ? 1.0f : -0.5f;
  }
  p.w = normal(random, g.out_channels * g.group_in_channels() * g.taps());
  if (draw(random, 0, 1) == 0) p.bias = normal(random, g.out_channels);
  draw_parameters(random, p);
  switch (draw(random, 0, 3)) {
    case 1:
      p.gather.activation = Activation::kRelu;
      break;
    case 2:
      p.gather = {Activation::kClip, {0.0f, 6.0f}};
      break;
    case 3:
      p.gather = {Activation::kLeakyRelu, {0.1f}};
      break;
    default:
      break;
  }
  return p;
}

void make_static(std::mt19937& random, Problem& p, TableType table) {
  std::normal_distribution<float> normal;
  p.hash.num_hashes = std::min<int64_t>(p.hash.num_hashes, 6);
  draw_parameters(random, p);
  p.cluster = {Scope::kStatic};
  p.table = table;
  p.centroids.resize(
      static_cast<size_t>((p.blocking.num_blocks() << p.hash.num_hashes) * p.blocking.sub_vector_length()));
  for (float& value : p.centroids) value = normal(random);
}

std::vector<float> random_deltas(std::mt19937& random, const ConvGeometry& geometry) {
  return normal(random, geometry.rows() * geometry.out_channels);
}

PoolAttributes random_pool_attributes(std::mt19937& random) {
  PoolAttributes a;
  a.mode = draw(random, 0, 1) == 0 ? PoolMode::kMax : PoolMode::kAverage;
  a.kernel_h = draw(random, 1, 4);
  a.kernel_w = draw(random, 1, 4);
  a.stride_h = draw(random, 1, 3);
  a.stride_w = draw(random, 1, 3);
  a.pad_top = draw(random, 0, a.kernel_h - 1);
  a.pad_bottom = draw(random, 0, a.kernel_h - 1);
  a.pad_left = draw(random, 0, a.kernel_w - 1);
  a.pad_right = draw(random, 0, a.kernel_w - 1);
  a.ceil_mode = draw(random, 0, 1) == 0;
  a.count_include_pad = !a.ceil_mode && draw(random, 0, 1) == 0;
  return a;
}

std::vector<float> dense(const Problem& p) {
  const ConvGeometry& g = p.blocking.geometry;
  const ConvAttributes& a = g.attributes;
  std::vector<float> y(static_cast<size_t>(g.rows() * g.out_channels));
  size_t index = 0;
  for (int64_t n = 0; n < g.batch; ++n) {
    for (int64_t m = 0; m < g.out_channels; ++m) {
      const int64_t first_channel = m / g.group_out_channels() * g.group_in_channels();
      for (int64_t row = 0; row < g.out_h; ++row) {
        for (int64_t column = 0; column < g.out_w; ++column) {
          double sum = p.bias.empty() ? 0.0 : p.bias[static_cast<size_t>(m)];
          for (int64_t c = 0; c < g.group_in_channels(); ++c) {
            for (int64_t tap = 0; tap < g.taps(); ++tap) {
              const int64_t r = row * a.stride_h - a.pad_top + tap / a.kernel_w * a.dilation_h;
              const int64_t s = column * a.stride_w - a.pad_left + tap % a.kernel_w * a.dilation_w;
              if (r < 0 || r >= g.in_h || s < 0 || s >= g.in_w) continue;
              const int64_t in = ((n * g.in_channels + first_channel + c) * g.in_h + r) * g.in_w + s;
              sum += static_cast<double>(p.x[static_cast<size_t>(in)]) *
                     p.w[static_cast<size_t>((m * g.group_in_channels() + c) * g.taps() + tap)];
            }
          }
          if (p.gather.activation == Activation::kRelu) sum = std::max(sum, 0.0);
          if (p.gather.activation == Activation::kClip) sum = std::min(std::max(sum, 0.0), 6.0);
          if (p.gather.activation == Activation::kLeakyRelu && sum < 0.0) sum *= 0.1;
          y[index++] = static_cast<float>(sum);
        }
      }
    }
  }
  return y;
}

Problem channel_problem(std::mt19937& random, const char* family, int64_t length, int64_t channels, int64_t num_hashes,
                        int64_t out_channels, int64_t batch) {
  ConvAttributes a;
  a.kernel_h = a.kernel_w = 3;
  a.pad_top = a.pad_left = a.pad_bottom = a.pad_right = 1;
  a.sub_vector_length = length;
  Problem p;
  p.blocking = Blocking::make(ConvGeometry::make(a, batch, channels, 9, 11, out_channels));
  p.hash = {&find_hash_family(family), num_hashes};
  p.cluster.verify = p.hash.family->is_lossless();
  p.x = normal(random, batch * channels * 9 * 11);
  p.w = normal(random, out_channels * channels * 9);
  p.bias = normal(random, out_channels);
  draw_parameters(random, p);
  return p;
}

std::vector<float> reordered(const std::vector<float>& values, int64_t batch, int64_t outer, int64_t inner) {
  std::vector<float> result(values.size());
  for (int64_t n = 0; n < batch; ++n) {
    for (int64_t i = 0; i < outer * inner; ++i) {
      const int64_t target = n * outer * inner + i % inner * outer + i / inner;
      result[static_cast<size_t>(target)] = values[static_cast<size_t>(n * outer * inner + i)];
    }
  }
  return result;
}

std::vector<float> run_fused(const ReusePlan& plan, ReuseState* state, const Problem& p, int64_t threads,
                             RunStatistics* statistics) {
  const ConvGeometry& g = p.blocking.geometry;
  PoisonedAllocator allocator;
  Threads parallel(threads);
  std::vector<float> y = poisoned<float>(g.rows() * g.out_channels);
  const bool pixel_major = g.attributes.input_order == DataOrder::kNhwc;
  const std::vector<float> x = pixel_major ? reordered(p.x, g.batch, g.in_channels, g.in_pixels()) : p.x;
  {
    Workspace workspace(allocator, parallel);
    reuse_conv(plan, state, plan.blocking(g.batch, g.in_h, g.in_w), workspace, x.data(), y.data());
    if (statistics != nullptr) *statistics = workspace.statistics;
  }
  EXPECT(allocator.held() == 0);
  if (g.attributes.output_order == DataOrder::kNhwc) return reordered(y, g.batch, g.out_pixels(), g.out_channels);
  return y;
}

std::vector<float> run_fused(const Problem& p, int64_t threads, RunStatistics* statistics) {
  PoisonedAllocator allocator;
  std::vector<float> y;
  {
    const ReusePlan plan = p.plan(allocator);
    y = run_fused(plan, nullptr, p, threads, statistics);
  }
  EXPECT(allocator.held() == 0);
  return y;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size() || a.empty()) return a.size() == b.size();
  return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

std::vector<float> run_staged(const Problem& p, int64_t threads) {
  const ConvGeometry& g = p.blocking.geometry;
  const int64_t blocks = p.blocking.num_blocks(), length = p.blocking.sub_vector_length();
  PoisonedAllocator allocator;
  Threads parallel(threads);
  Workspace workspace(allocator, parallel);
  std::vector<int64_t> codes = poisoned<int64_t>(blocks * p.blocking.vectors);
  hash(workspace, p.blocking, *p.encoder(allocator), p.x.data(), codes.data());
  const Clusters clusters = cluster(workspace, p.blocking, p.cluster, p.x.data(), codes.data());
  int64_t capacity = 1;
  for (const BlockClusters& block : clusters.blocks) capacity = std::max(capacity, block.count);
  std::vector<float> centroids = poisoned<float>(blocks * capacity * length);
  std::vector<int32_t> counts;
  for (int64_t b = 0; b < blocks; ++b) {
    const BlockClusters& block = clusters.blocks[static_cast<size_t>(b)];
    counts.push_back(static_cast<int32_t>(block.count));
    std::copy_n(block.centroids.data(), block.count * length, centroids.data() + b * capacity * length);
  }
  std::vector<float> table = poisoned<float>(blocks * capacity * p.blocking.table_width());
  centroid_gemm(workspace, p.blocking, p.w.data(), centroids.data(), counts.data(), capacity, table.data());
  std::vector<float> y = poisoned<float>(g.rows() * g.out_channels);
  gather(workspace, p.blocking, p.gather, table.data(), capacity, clusters.ids.data(),
         p.bias.empty() ? nullptr : p.bias.data(), y.data());
  return y;
}

}  // namespace reuse::testing
