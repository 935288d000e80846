#include "kernels.h"

#include <algorithm>

#include "../cpu/stopwatch.h"

namespace reuse::ort {

std::unique_ptr<Kernel> CpuKernelSource::make(OperatorName name, const KernelInfo* info) const {
  switch (name) {
    case OperatorName::kHash:
      return std::make_unique<HashKernel>(info, session_);
    case OperatorName::kCluster:
      return std::make_unique<ClusterKernel>(info, session_);
    case OperatorName::kCentroidGemm:
      return std::make_unique<CentroidGemmKernel>(info, session_);
    case OperatorName::kGather:
      return std::make_unique<GatherKernel>(info, session_);
    case OperatorName::kReuseConv:
      return std::make_unique<ReuseConvKernel>(info, session_);
    case OperatorName::kPool:
      return std::make_unique<PoolKernel>(info, session_);
  }
  return nullptr;
}
HashKernel::HashKernel(const KernelInfo* info, std::string session)
    : Kernel(info, "Hash", std::move(session)),
      conv_(read_conv_attributes(KernelAttributes(info))),
      hash_(read_hash_attributes(KernelAttributes(info))) {}

void HashKernel::run(KernelContext* tensors, Context& context) const {
  const TensorView x = input(tensors, 0);
  const Blocking blocking = make_blocking(conv_, x, conv_.group);
  const HashParameters parameters = read_hash_parameters(tensors, 1, hash_, blocking);
  int64_t* codes = output<int64_t>(tensors, 0, {blocking.num_blocks(), blocking.vectors});
  Stopwatch watch(context.statistics.hash_ns);
  hash(context, blocking, hash_, parameters, x.as<float>(), codes);
}

ClusterKernel::ClusterKernel(const KernelInfo* info, std::string session)
    : Kernel(info, "Cluster", std::move(session)),
      conv_(read_conv_attributes(KernelAttributes(info))),
      cluster_(read_cluster_attributes(KernelAttributes(info))) {}

void ClusterKernel::run(KernelContext* tensors, Context& context) const {
  const TensorView x = input(tensors, 0), codes = input(tensors, 1);
  const Blocking blocking = make_blocking(conv_, x, conv_.group);
  const int64_t blocks = blocking.num_blocks(), vectors = blocking.vectors, length = blocking.sub_vector_length();
  require_shape(codes, {blocks, vectors}, "codes");
  Stopwatch watch(context.statistics.cluster_ns);
  const Clusters clusters = cluster(context, blocking, cluster_, x.as<float>(), codes.as<int64_t>());
  int64_t capacity = 1;
  for (const BlockClusters& block : clusters.blocks) capacity = std::max(capacity, block.count);
  int32_t* ids = output<int32_t>(tensors, 0, {blocks, vectors});
  float* centroids = output<float>(tensors, 1, {blocks, capacity, length});
  int32_t* counts = output<int32_t>(tensors, 2, {blocks});
  std::copy_n(clusters.ids.data(), blocks * vectors, ids);
  for (int64_t b = 0; b < blocks; ++b) {
    const BlockClusters& block = clusters.blocks[static_cast<size_t>(b)];
    counts[b] = static_cast<int32_t>(block.count);
    float* rows = centroids + b * capacity * length;
    std::copy_n(block.centroids.data(), block.count * length, rows);
    std::fill(rows + block.count * length, rows + capacity * length, 0.0f);
  }
}

CentroidGemmKernel::CentroidGemmKernel(const KernelInfo* info, std::string session)
    : Kernel(info, "CentroidGemm", std::move(session)),
      layout_(read_layout(KernelAttributes(info))),
      group_(KernelAttributes(info).integer("group").value_or(1)) {}

void CentroidGemmKernel::run(KernelContext* tensors, Context& context) const {
  const TensorView centroids = input(tensors, 0), counts = input(tensors, 1), w = input(tensors, 2);
  const ConvAttributes conv = conv_of_tables(layout_, group_, centroids, w);
  const Blocking blocking = blocking_of_weights(conv, w);
  const int64_t capacity = centroids.shape[1];
  require_shape(centroids, {blocking.num_blocks(), capacity, conv.sub_vector_length}, "centroids");
  require_shape(counts, {blocking.num_blocks()}, "counts");
  float* table = output<float>(tensors, 0, {blocking.num_blocks(), capacity, blocking.table_width()});
  Stopwatch watch(context.statistics.gemm_ns);
  const PackedWeights weights(context.allocator, blocking, w.as<float>(), blocking.geometry.group_out_channels(), 1);
  centroid_gemm(context, blocking, weights, centroids.as<float>(), counts.as<int32_t>(), capacity, table);
}

GatherKernel::GatherKernel(const KernelInfo* info, std::string session)
    : Kernel(info, "Gather", std::move(session)),
      conv_(read_conv_attributes(KernelAttributes(info))),
      gather_(read_gather_attributes(KernelAttributes(info))) {}

void GatherKernel::run(KernelContext* tensors, Context& context) const {
  const TensorView table = input(tensors, 0), ids = input(tensors, 1), x = input(tensors, 2);
  require_rank(table, 3, "table");
  const int64_t taps = conv_.layout == Layout::kPatch ? 1 : conv_.kernel_h * conv_.kernel_w;
  const Blocking blocking = make_blocking(conv_, x, table.shape[2] / taps * conv_.group);
  require_shape(table, {blocking.num_blocks(), table.shape[1], blocking.table_width()}, "table");
  require_shape(ids, {blocking.num_blocks(), blocking.vectors}, "ids");
  const float* bias = static_cast<const float*>(read_bias(tensors, 3, blocking.geometry.out_channels));
  float* y = output<float>(tensors, 0, output_shape(blocking.geometry));
  Stopwatch watch(context.statistics.gather_ns);
  gather(context, blocking, gather_, table.as<float>(), table.shape[1], ids.as<int32_t>(), bias, y);
}

ReuseConvKernel::ReuseConvKernel(const KernelInfo* info, std::string session)
    : Kernel(info, "ReuseConv", std::move(session)),
      conv_(read_conv_attributes(KernelAttributes(info))),
      hash_(read_hash_attributes(KernelAttributes(info))),
      cluster_(read_cluster_attributes(KernelAttributes(info))),
      gather_(read_gather_attributes(KernelAttributes(info))),
      table_(parse_table_type(KernelAttributes(info).text("table").value_or("float"))) {
  read_data_orders(KernelAttributes(info), conv_);
  const TensorView w = constant_input(info, 1);
  if (!w.present()) return;
  check_weights(w, conv_, std::nullopt);
  weights_allocator_ = std::make_unique<ScratchAllocator>(allocator());
  weights_.emplace(pack_for_reuse_conv(*weights_allocator_, blocking_of_weights(conv_, w), table_, w.as<float>()));
}

void ReuseConvKernel::run(KernelContext* tensors, Context& context) const {
  const TensorView x = input(tensors, 0), w = input(tensors, 1);
  require_rank(x, 4, "X");
  check_weights(w, conv_, image_shape(x, conv_.input_order).channels);
  const Blocking blocking = make_blocking(conv_, x, w.shape[0]);
  const float* bias = static_cast<const float*>(read_bias(tensors, 2, w.shape[0]));
  const HashParameters parameters = read_hash_parameters(tensors, 3, hash_, blocking);
  float* y = output<float>(tensors, 0, output_shape(blocking.geometry));
  if (weights_) {
    reuse_conv(context, blocking, hash_, cluster_, table_, gather_, parameters, *weights_, x.as<float>(), bias, y);
    return;
  }
  const PackedWeights weights = pack_for_reuse_conv(context.allocator, blocking, table_, w.as<float>());
  reuse_conv(context, blocking, hash_, cluster_, table_, gather_, parameters, weights, x.as<float>(), bias, y);
}

PoolKernel::PoolKernel(const KernelInfo* info, std::string session)
    : Kernel(info, "Pool", std::move(session)), pool_(read_pool_attributes(KernelAttributes(info))) {}

void PoolKernel::run(KernelContext* tensors, Context& context) const {
  const TensorView x = input(tensors, 0);
  require_rank(x, 4, "X");
  const ImageShape shape = image_shape(x, DataOrder::kNhwc);
  const PoolAxis height = pool_axis(pool_, 0, shape.height), width = pool_axis(pool_, 1, shape.width);
  float* y = output<float>(tensors, 0, {shape.batch, height.out, width.out, shape.channels});
  Stopwatch watch(context.statistics.gather_ns);
  pool(context, pool_, shape.batch, height, width, shape.channels, x.as<float>(), y);
}

}  // namespace reuse::ort
