#include "cuda_host.h"

#include "../cuda/pipeline.h"

namespace reuse::testing {
namespace {

using cuda::Half;
using cuda::HostLauncher;

template <typename T>
std::vector<T> converted(const std::vector<float>& values) {
  std::vector<T> result;
  result.reserve(values.size());
  for (const float value : values) result.push_back(cuda::from_float<T>(value));
  return result;
}

template <typename T>
std::vector<float> as_floats(const std::vector<T>& values) {
  std::vector<float> result;
  result.reserve(values.size());
  for (const T value : values) result.push_back(cuda::to_float(value));
  return result;
}

// Memory of exactly that size, filled with what would show as NaN, so that sanitizers see what leaves it.
template <typename T>
std::vector<T> poisoned(int64_t count) {
  std::vector<T> memory(static_cast<size_t>(count));
  std::memset(static_cast<void*>(memory.data()), 0xFF, memory.size() * sizeof(T));
  return memory;
}

class Scratch {
 public:
  explicit Scratch(size_t bytes) : memory_(poisoned<uint8_t>(static_cast<int64_t>(bytes + kAlignment))) {}
  void* data() {
    const auto address = reinterpret_cast<uintptr_t>(memory_.data());
    return memory_.data() + (kAlignment - address % kAlignment) % kAlignment;
  }

 private:
  static constexpr size_t kAlignment = 256;
  std::vector<uint8_t> memory_;
};

void count(RunStatistics& statistics, const std::vector<int64_t>& sums) {
  statistics.clusters = sums[0];
  statistics.guarded = sums[1];
}

template <typename T, typename Run>
std::vector<float> run_fused_as(const CudaProblem& p, HostLauncher::Order order, RunStatistics& statistics) {
  HostLauncher launcher(order);
  const auto plan = cuda::FusedPlan::make(p.blocking, p.hash, p.cluster);
  cuda::Arena measure(nullptr);
  cuda::PackedWeightsView<T>::take(measure, plan.panels);
  Scratch weights_memory(measure.used());
  cuda::Arena arena(weights_memory.data());
  const auto weights = cuda::PackedWeightsView<T>::take(arena, plan.panels);
  const std::vector<T> w = converted<T>(p.w), bias = converted<T>(p.bias), x = converted<T>(p.x);
  cuda::pack_weights(launcher, plan.shape, plan.panels, w.data(), weights);
  const ConvGeometry& g = p.blocking.geometry;
  std::vector<T> y = poisoned<T>(g.rows() * g.out_channels);
  std::vector<int64_t> sums(3);
  const Run run(plan);
  Scratch scratch(run.scratch_bytes());
  run.run(launcher,
          {x.data(), bias.empty() ? nullptr : bias.data(), p.hash,
           p.activation, y.data(), sums.data()},
          weights, scratch.data());
  count(statistics, sums);
  return as_floats(y);
}

template <typename T, typename Product>
std::vector<float> run_staged_as(const CudaProblem& p, HostLauncher::Order order, RunStatistics& statistics) {
  HostLauncher launcher(order);
  const ConvGeometry& g = p.blocking.geometry;
  const cuda::Shape shape = cuda::make_shape(p.blocking);
  const std::vector<T> w = converted<T>(p.w), bias = converted<T>(p.bias), x = converted<T>(p.x);
  const int64_t blocks = p.blocking.num_blocks(), all = blocks * p.blocking.vectors;
  std::vector<int64_t> codes = poisoned<int64_t>(all), sums(3);
  cuda::run_hash(launcher, shape, p.hash, x.data(), codes.data());
  const cuda::StagedCluster<T> cluster(p.blocking, p.cluster);
  std::vector<int32_t> ids = poisoned<int32_t>(all), counts = poisoned<int32_t>(blocks);
  std::vector<T> centroids = poisoned<T>(blocks * cluster.rows() * shape.length);
  Scratch scratch(cluster.scratch_bytes());
  cluster.run(launcher, x.data(), codes.data(), ids.data(), centroids.data(), counts.data(), sums.data(),
              scratch.data());
  const cuda::StagedProduct<T, Product> product(p.blocking, cluster.rows());
  std::vector<T> table = poisoned<T>(blocks * cluster.rows() * p.blocking.table_width());
  Scratch packed(product.scratch_bytes());
  product.run(launcher, centroids.data(), counts.data(), w.data(), table.data(), packed.data());
  std::vector<T> y = poisoned<T>(g.rows() * g.out_channels);
  cuda::run_gather(launcher, shape, p.activation, table.data(), cluster.rows(), ids.data(),
                   bias.empty() ? nullptr : bias.data(), y.data());
  count(statistics, sums);
  return as_floats(y);
}

}  // namespace

std::vector<float> rounded_to_half(const std::vector<float>& values) { return as_floats(converted<Half>(values)); }

std::vector<float> run_cuda_fused(const CudaProblem& problem, CudaMode mode, HostLauncher::Order order,
                                  RunStatistics& statistics) {
  switch (mode) {
    case CudaMode::kStrict:
      return run_fused_as<float, cuda::StrictFused<float>>(problem, order, statistics);
    case CudaMode::kTf32:
      return run_fused_as<float, cuda::TensorFused<float>>(problem, order, statistics);
    case CudaMode::kHalf:
      return run_fused_as<Half, cuda::TensorFused<Half>>(problem, order, statistics);
  }
  return {};
}

std::vector<float> run_cuda_staged(const CudaProblem& problem, CudaMode mode, HostLauncher::Order order,
                                   RunStatistics& statistics) {
  switch (mode) {
    case CudaMode::kStrict:
      return run_staged_as<float, cuda::StrictProduct>(problem, order, statistics);
    case CudaMode::kTf32:
      return run_staged_as<float, cuda::TensorProduct<float>>(problem, order, statistics);
    case CudaMode::kHalf:
      return run_staged_as<Half, cuda::TensorProduct<Half>>(problem, order, statistics);
  }
  return {};
}

}  // namespace reuse::testing
