// Whole operators by the CUDA kernels, on a machine: the host (cuda_host.cc) or a GPU (cuda_device.cu).
//
// A machine has `launcher()` and Memory<T>: Memory(count) is poisoned, Memory(values) a copy; data(), to_host(). It
// copies values to a place in such memory, and `count` values from there to_host().
#pragma once

#include <algorithm>
#include <numeric>

#include "../cuda/static_conv.h"
#include "../cuda/training_pipeline.h"
#include "cuda_problem.h"

namespace reuse::testing {

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

template <typename Machine, typename T>
using Memory = typename Machine::template Memory<T>;

// A family's parameters where the kernels can read them.
template <typename Machine>
class HashMemory {
 public:
  explicit HashMemory(const CudaProblem& p) : HashMemory(p, sizes(p)) {}

  cuda::HashOperands operands() {
    cuda::HashOperands result = hash_;
    if (hash_.projections != nullptr) result.projections = projections_.data();
    if (hash_.thresholds != nullptr) result.thresholds = thresholds_.data();
    if (hash_.coordinates != nullptr) result.coordinates = coordinates_.data();
    return result;
  }

 private:
  HashMemory(const CudaProblem& p, const HashParameterSizes& sizes)
      : hash_(p.hash),
        projections_(values(p.hash.projections, sizes.projections)),
        thresholds_(values(p.hash.thresholds, sizes.thresholds)),
        coordinates_(values(p.hash.coordinates, sizes.coordinates)) {}

  static HashParameterSizes sizes(const CudaProblem& p) {
    const HashFamily& family = find_hash_family(cuda::kFamilyNames[static_cast<int32_t>(p.hash.family)]);
    const HashShape shape{p.blocking.num_blocks(), p.blocking.sub_vector_length(), p.hash.num_hashes};
    const HashParameterSizes needed = family.required(shape), possible = family.optional(shape);
    return {std::max(needed.projections, possible.projections), std::max(needed.thresholds, possible.thresholds),
            std::max(needed.coordinates, possible.coordinates)};
  }

  template <typename T>
  static std::vector<T> values(const T* from, int64_t count) {
    return from == nullptr ? std::vector<T>{} : std::vector<T>(from, from + count);
  }

  cuda::HashOperands hash_;
  Memory<Machine, float> projections_, thresholds_;
  Memory<Machine, int32_t> coordinates_;
};

inline void count(RunStatistics& statistics, const std::vector<int64_t>& sums) {
  statistics.clusters = sums[0];
  statistics.guarded = sums[1];
}

template <typename Run, typename Machine, typename T = typename Run::Packed>
std::vector<float> run_fused_as(Machine& machine, const CudaProblem& p, RunStatistics& statistics) {
  const auto plan = Run::plan(p.blocking, p.hash, p.cluster, p.limits);
  Arena measure(nullptr);
  cuda::PackedWeightsView<T>::take(measure, plan.panels);
  Memory<Machine, char> weights_memory(static_cast<int64_t>(measure.used()));
  Arena arena(weights_memory.data());
  const auto weights = cuda::PackedWeightsView<T>::take(arena, plan.panels);
  Memory<Machine, T> w(converted<T>(p.w)), bias(converted<T>(p.bias)), x(converted<T>(p.x));
  cuda::pack_weights(machine.launcher(), plan.shape, plan.panels, w.data(), weights);
  const ConvGeometry& g = p.blocking.geometry;
  Memory<Machine, T> y(g.rows() * g.out_channels);
  Memory<Machine, int64_t> sums(std::vector<int64_t>(3));
  HashMemory<Machine> hash(p);
  const Run run(plan);
  Memory<Machine, char> scratch(static_cast<int64_t>(run.scratch_bytes()));
  run.run(machine.launcher(),
          {x.data(), p.bias.empty() ? nullptr : bias.data(), hash.operands(), p.activation, y.data(), sums.data()},
          weights, scratch.data());
  count(statistics, sums.to_host());
  return as_floats(y.to_host());
}

// Scope static: what is made once, and a run.
template <typename Conv, typename Machine, typename T = typename Conv::Image>
std::vector<float> run_static_as(Machine& machine, const CudaProblem& p, RunStatistics& statistics) {
  const Conv conv(p.blocking, int64_t{1} << p.hash.num_hashes, p.keep_tables);
  Arena measure(nullptr);
  conv.take(measure);
  Memory<Machine, char> memory(static_cast<int64_t>(measure.used()));
  Arena arena(memory.data());
  const auto own = conv.take(arena);
  Memory<Machine, T> w(converted<T>(p.w)), bias(converted<T>(p.bias)), x(converted<T>(p.x));
  machine.copy(own.centroids, converted<T>(p.centroids));
  conv.prepare(machine.launcher(), own, w.data());
  machine.copy(own.scales, conv.scales(machine.to_host(own.largest, conv.num_largest())));
  conv.write_table(machine.launcher(), own);
  const ConvGeometry& g = p.blocking.geometry;
  Memory<Machine, T> y(g.rows() * g.out_channels);
  Memory<Machine, int64_t> sums(std::vector<int64_t>(3));
  HashMemory<Machine> hash(p);
  Memory<Machine, char> scratch(static_cast<int64_t>(conv.scratch_bytes()));
  conv.run(machine.launcher(), own,
           {x.data(), p.bias.empty() ? nullptr : bias.data(), hash.operands(), p.activation, y.data(), sums.data()},
           scratch.data());
  count(statistics, sums.to_host());
  return as_floats(y.to_host());
}

template <typename Machine>
std::vector<float> run_static_on(Machine& machine, const CudaProblem& p, CudaMode mode, RunStatistics& statistics) {
  using cuda::Half, cuda::StaticConv;
  const bool int8 = p.table == TableType::kInt8;
  if (mode == CudaMode::kHalf) {
    return int8 ? run_static_as<StaticConv<Half, int8_t>>(machine, p, statistics)
                : run_static_as<StaticConv<Half, Half>>(machine, p, statistics);
  }
  return int8 ? run_static_as<StaticConv<float, int8_t>>(machine, p, statistics)
              : run_static_as<StaticConv<float, float>>(machine, p, statistics);
}

template <typename T, typename Product, typename Machine>
std::vector<float> run_staged_as(Machine& machine, const CudaProblem& p, RunStatistics& statistics) {
  auto& launcher = machine.launcher();
  const ConvGeometry& g = p.blocking.geometry;
  const cuda::Shape shape = cuda::make_shape(p.blocking);
  Memory<Machine, T> w(converted<T>(p.w)), bias(converted<T>(p.bias)), x(converted<T>(p.x));
  const int64_t blocks = p.blocking.num_blocks(), all = blocks * p.blocking.vectors;
  Memory<Machine, int64_t> codes(all), sums(std::vector<int64_t>(3));
  HashMemory<Machine> hash(p);
  cuda::run_hash(launcher, shape, hash.operands(), static_cast<const T*>(x.data()), codes.data());
  const bool is_static = p.cluster.scope == Scope::kStatic;
  const cuda::StagedCluster<T> cluster(p.blocking, is_static ? ClusterAttributes{} : p.cluster, 64, p.limits);
  const cuda::GivenClusters<T> known(p.blocking, is_static ? int64_t{1} << p.hash.num_hashes : 0);
  const int32_t rows = is_static ? known.rows() : cluster.rows();
  Memory<Machine, int32_t> ids(all), counts(blocks);
  Memory<Machine, T> centroids(blocks * rows * shape.length), given(converted<T>(p.centroids));
  Memory<Machine, char> scratch(static_cast<int64_t>(is_static ? known.scratch_bytes() : cluster.scratch_bytes()));
  if (is_static) {
    known.run(launcher, x.data(), codes.data(), given.data(), ids.data(), centroids.data(), counts.data(), sums.data(),
              scratch.data());
  } else {
    cluster.run(launcher, x.data(), codes.data(), ids.data(), centroids.data(), counts.data(), sums.data(),
                scratch.data());
  }
  const cuda::StagedProduct<T, Product> product(p.blocking, rows);
  Memory<Machine, T> table(blocks * rows * p.blocking.table_width());
  Memory<Machine, char> packed(static_cast<int64_t>(product.scratch_bytes()));
  product.run(launcher, centroids.data(), counts.data(), w.data(), table.data(), packed.data());
  Memory<Machine, T> y(g.rows() * g.out_channels);
  cuda::run_gather(launcher, shape, p.activation, static_cast<const T*>(table.data()), rows, ids.data(),
                   p.bias.empty() ? nullptr : static_cast<const T*>(bias.data()), y.data());
  count(statistics, sums.to_host());
  return as_floats(y.to_host());
}

template <typename Product, typename Entry, typename Machine>
std::vector<float> run_product_as(Machine& machine, const CudaProduct& p) {
  using T = typename Product::Operand;
  const auto skewed = [&](std::vector<float> values) {
    values.insert(values.begin(), static_cast<size_t>(p.skew), 0.0f);
    return converted<T>(values);
  };
  Memory<Machine, T> centroids(skewed(p.centroids)), panels(skewed(p.panels));
  Memory<Machine, int32_t> counts(p.counts);
  Memory<Machine, Entry> table(p.skew + static_cast<int64_t>(p.tiles) * p.num_blocks * p.rows * p.width);
  const cuda::ProductKernel<Product, T, Entry> product{p.tiles,
                                                       p.num_blocks,
                                                       p.rows,
                                                       p.length,
                                                       p.width,
                                                       counts.data(),
                                                       centroids.data() + p.skew,
                                                       panels.data() + p.skew,
                                                       {nullptr, nullptr, 0},
                                                       table.data() + p.skew};
  cuda::launch_product(machine.launcher(), product);
  std::vector<float> result = as_floats(table.to_host());
  result.erase(result.begin(), result.begin() + p.skew);
  return result;
}

template <typename Machine>
std::vector<float> run_product_on(Machine& machine, const CudaProduct& p, CudaMode mode, bool half_table) {
  using cuda::Half;
  switch (mode) {
    case CudaMode::kStrict:
      return run_product_as<cuda::StrictProduct, float>(machine, p);
    case CudaMode::kTf32:
      return half_table ? run_product_as<cuda::TensorProduct<float>, Half>(machine, p)
                        : run_product_as<cuda::TensorProduct<float>, float>(machine, p);
    case CudaMode::kHalf:
      return run_product_as<cuda::TensorProduct<Half>, Half>(machine, p);
  }
  return {};
}

template <typename T, typename Machine>
std::vector<float> run_gather_as(Machine& machine, const CudaProblem& p, const std::vector<float>& table, int64_t rows,
                                 const std::vector<int32_t>& ids) {
  const ConvGeometry& g = p.blocking.geometry;
  Memory<Machine, T> own_table(converted<T>(table)), bias(converted<T>(p.bias)), y(g.rows() * g.out_channels);
  Memory<Machine, int32_t> own_ids(ids);
  cuda::run_gather(machine.launcher(), cuda::make_shape(p.blocking), p.activation,
                   static_cast<const T*>(own_table.data()), rows, own_ids.data(),
                   p.bias.empty() ? nullptr : static_cast<const T*>(bias.data()), y.data());
  return as_floats(y.to_host());
}

template <typename Machine>
std::vector<float> run_gather_on(Machine& machine, const CudaProblem& p, CudaMode mode, const std::vector<float>& table,
                                 int64_t rows, const std::vector<int32_t>& ids) {
  return mode == CudaMode::kHalf ? run_gather_as<cuda::Half>(machine, p, table, rows, ids)
                                 : run_gather_as<float>(machine, p, table, rows, ids);
}

template <typename Machine>
CudaClusters run_given_clusters_on(Machine& machine, const CudaProblem& p, const std::vector<int64_t>& codes) {
  const int64_t blocks = p.blocking.num_blocks();
  const cuda::GivenClusters<float> clusters(p.blocking, int64_t{1} << p.hash.num_hashes);
  Memory<Machine, float> x(p.x), given(p.centroids);
  Memory<Machine, float> centroids(blocks * clusters.rows() * p.blocking.sub_vector_length());
  Memory<Machine, int64_t> own_codes(codes);
  Memory<Machine, int32_t> ids(blocks * p.blocking.vectors), counts(blocks);
  Memory<Machine, char> scratch(static_cast<int64_t>(clusters.scratch_bytes()));
  clusters.run(machine.launcher(), x.data(), own_codes.data(), given.data(), ids.data(), centroids.data(),
               counts.data(), nullptr, scratch.data());
  return {ids.to_host(), counts.to_host(), centroids.to_host(), clusters.rows()};
}

template <typename Machine>
CudaClusters run_cluster_on(Machine& machine, const CudaProblem& p, const std::vector<int64_t>& codes) {
  const int64_t blocks = p.blocking.num_blocks();
  if (p.cluster.scope == Scope::kStatic) return run_given_clusters_on(machine, p, codes);
  const cuda::StagedCluster<float> cluster(p.blocking, p.cluster, 64, p.limits);
  Memory<Machine, float> x(p.x), centroids(blocks * cluster.rows() * p.blocking.sub_vector_length());
  Memory<Machine, int64_t> own_codes(codes);
  Memory<Machine, int32_t> ids(blocks * p.blocking.vectors), counts(blocks);
  Memory<Machine, char> scratch(static_cast<int64_t>(cluster.scratch_bytes()));
  cluster.run(machine.launcher(), x.data(), own_codes.data(), ids.data(), centroids.data(), counts.data(), nullptr,
              scratch.data());
  return {ids.to_host(), counts.to_host(), centroids.to_host(), cluster.rows()};
}

// The order of vectors by cluster, and where clusters begin, for `rows` of them in each block.
struct MemberOrder {
  MemberOrder(const Blocking& blocking, const std::vector<int32_t>& ids, int64_t rows)
      : order(ids.size()), starts(static_cast<size_t>(blocking.num_blocks() * (rows + 1))) {
    for (int64_t block = 0; block < blocking.num_blocks(); ++block) {
      const int32_t* own = ids.data() + block * blocking.vectors;
      int32_t* first = order.data() + block * blocking.vectors;
      std::iota(first, first + blocking.vectors, 0);
      std::stable_sort(first, first + blocking.vectors, [&](int32_t a, int32_t b) { return own[a] < own[b]; });
      int32_t* start = starts.data() + block * (rows + 1);
      for (int64_t v = 0; v < blocking.vectors; ++v) ++start[own[v] + 1];
      std::partial_sum(start, start + rows + 1, start);
    }
  }
  std::vector<int32_t> order, starts;
};

template <typename Machine>
CudaStep run_step_on(Machine& machine, const CudaProblem& p, CudaMode mode, const std::vector<float>& dy) {
  auto& launcher = machine.launcher();
  const ConvGeometry& g = p.blocking.geometry;
  const int64_t blocks = p.blocking.num_blocks(), all = blocks * p.blocking.vectors;
  Memory<Machine, float> x(p.x), w(p.w), bias(p.bias), own_dy(dy);
  Memory<Machine, int64_t> codes(all);
  Memory<Machine, int32_t> ids(all), counts(blocks);
  HashMemory<Machine> hash(p);
  const cuda::StagedCluster<float> cluster(p.blocking, p.cluster, cuda::code_bits(p.hash), p.limits);
  Memory<Machine, char> numbering(static_cast<int64_t>(cluster.numbering_bytes()));
  cluster.hash_and_number(launcher, hash.operands(), x.data(), codes.data(), ids.data(), counts.data(),
                          numbering.data());
  const std::vector<int32_t> found = counts.to_host();
  const int32_t rows = found.empty() ? 0 : *std::max_element(found.begin(), found.end());
  Memory<Machine, float> centroids(blocks * rows * p.blocking.sub_vector_length());
  Memory<Machine, char> sums(static_cast<int64_t>(cluster.sums_bytes(rows)));
  cluster.average(launcher, x.data(), ids.data(), counts.data(), numbering.data(), rows, centroids.data(), sums.data());
  const MemberOrder ordered(p.blocking, ids.to_host(), rows);
  Memory<Machine, int32_t> order(ordered.order), starts(ordered.starts);
  const cuda::DeviceClusters clusters{rows, ids.data(), counts.data(), centroids.data(), order.data(), starts.data()};
  const cuda::ForwardPass forward(p.blocking, rows);
  Memory<Machine, char> forward_memory(static_cast<int64_t>(forward.scratch_bytes()));
  Memory<Machine, float> y(g.rows() * g.out_channels);
  forward.run(launcher, mode == CudaMode::kTf32, clusters, w.data(), p.bias.empty() ? nullptr : bias.data(), y.data(),
              forward_memory.data());
  const cuda::BackwardPass backward(p.blocking, rows);
  Memory<Machine, char> backward_memory(static_cast<int64_t>(backward.scratch_bytes()));
  Memory<Machine, float> dw(static_cast<int64_t>(p.w.size())), dx(static_cast<int64_t>(p.x.size()));
  backward.run(launcher, clusters, w.data(), own_dy.data(), {dw.data(), dx.data()}, backward_memory.data());
  return {{ids.to_host(), found, centroids.to_host(), rows}, y.to_host(), dw.to_host(), dx.to_host()};
}

template <typename Machine>
std::vector<float> run_pool_on(Machine& machine, const PoolAttributes& attributes, int64_t batch,
                               const PoolAxis& height, const PoolAxis& width, int64_t channels,
                               const std::vector<float>& x) {
  Memory<Machine, float> own_x(x), y(batch * height.out * width.out * channels);
  cuda::run_pool(machine.launcher(), attributes, batch, height, width, channels,
                 static_cast<const float*>(own_x.data()), y.data());
  return y.to_host();
}

template <typename Machine>
std::vector<float> run_fused_on(Machine& machine, const CudaProblem& p, CudaMode mode, RunStatistics& statistics) {
  if (p.cluster.scope == Scope::kStatic) return run_static_on(machine, p, mode, statistics);
  switch (mode) {
    case CudaMode::kStrict:
      return run_fused_as<cuda::StrictFused<float>>(machine, p, statistics);
    case CudaMode::kTf32:
      return run_fused_as<cuda::TensorFused<float>>(machine, p, statistics);
    case CudaMode::kHalf:
      return run_fused_as<cuda::TensorFused<cuda::Half>>(machine, p, statistics);
  }
  return {};
}

template <typename Machine>
std::vector<float> run_staged_on(Machine& machine, const CudaProblem& p, CudaMode mode, RunStatistics& statistics) {
  switch (mode) {
    case CudaMode::kStrict:
      return run_staged_as<float, cuda::StrictProduct>(machine, p, statistics);
    case CudaMode::kTf32:
      return run_staged_as<float, cuda::TensorProduct<float>>(machine, p, statistics);
    case CudaMode::kHalf:
      return run_staged_as<cuda::Half, cuda::TensorProduct<cuda::Half>>(machine, p, statistics);
  }
  return {};
}

}  // namespace reuse::testing
