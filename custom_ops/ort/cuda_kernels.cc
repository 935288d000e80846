#include "cuda_kernels.h"

#include <utility>

#include "attributes.h"
#include "cuda_reuse_conv.h"

namespace reuse::ort {
namespace {

class CudaHash final : public CudaKernel {
 public:
  CudaHash(const KernelInfo* info, const CudaSetup& setup)
      : CudaKernel(info, "Hash", setup),
        conv_(read_conv_attributes(KernelAttributes(info))),
        hash_(read_hash_attributes(KernelAttributes(info))) {
    check_constant_coordinates(info, 3, conv_.sub_vector_length);
  }

 private:
  void run(KernelContext* tensors, Workspace&) const override {
    const TensorView x = input(tensors, 0);
    const Blocking blocking = make_blocking(conv_, x, conv_.group);
    const HashParameters parameters = read_hash_parameters(tensors, 1, hash_, blocking);
    int64_t* codes = output<int64_t>(tensors, 0, {blocking.num_blocks(), blocking.vectors});
    cuda::hash(execution(tensors), element(), blocking, hash_, parameters, x.data, codes);
  }

  ConvAttributes conv_;
  HashAttributes hash_;
};

class CudaCluster final : public CountingKernel {
 public:
  CudaCluster(const KernelInfo* info, const CudaSetup& setup)
      : CountingKernel(info, "Cluster", setup),
        conv_(read_conv_attributes(KernelAttributes(info))),
        cluster_(read_cluster_attributes(KernelAttributes(info))) {
    require_cuda_scope(cluster_);
  }

 private:
  void run(KernelContext* tensors, Workspace& workspace) const override {
    const TensorView x = input(tensors, 0), codes = input(tensors, 1), given = input(tensors, 2);
    const Blocking blocking = make_blocking(conv_, x, conv_.group);
    const int64_t blocks = blocking.num_blocks(), length = blocking.sub_vector_length();
    const bool is_static = cluster_.scope == Scope::kStatic;
    require_shape(codes, {blocks, blocking.vectors}, "codes");
    require_given(given, cluster_, blocking);
    const int64_t clusters = is_static ? given.shape[1] : 0;
    const int64_t rows = is_static ? cuda::given_rows(blocking, clusters) : cuda::cluster_rows(blocking);
    int32_t* ids = output<int32_t>(tensors, 0, {blocks, blocking.vectors});
    void* centroids = output<uint8_t>(tensors, 1, {blocks, rows, length});
    int32_t* counts = output<int32_t>(tensors, 2, {blocks});
    const cuda::Execution own = execution(tensors);
    const size_t bytes = is_static ? cuda::given_scratch(element(), blocking, clusters)
                                   : cuda::cluster_scratch(element(), blocking, cluster_);
    const auto scratch = lease(own, bytes, workspace.statistics);
    counted(blocking, workspace.statistics, [&] {
      if (is_static) {
        cuda::given_clusters(own, element(), blocking, given.data, clusters, x.data, codes.as<int64_t>(), ids,
                             centroids, counts, sums(), scratch.data());
      } else {
        cuda::cluster(own, element(), blocking, cluster_, x.data, codes.as<int64_t>(), ids, centroids, counts, sums(),
                      scratch.data());
      }
    });
  }

  ConvAttributes conv_;
  ClusterAttributes cluster_;
};

class CudaCentroidGemm final : public CudaKernel {
 public:
  CudaCentroidGemm(const KernelInfo* info, const CudaSetup& setup)
      : CudaKernel(info, "CentroidGemm", setup),
        layout_(read_layout(KernelAttributes(info))),
        group_(read_group(KernelAttributes(info))) {}

 private:
  void run(KernelContext* tensors, Workspace& workspace) const override {
    const TensorView centroids = input(tensors, 0), counts = input(tensors, 1), w = input(tensors, 2);
    const ConvAttributes conv = conv_of_tables(layout_, group_, centroids, w);
    const Blocking blocking = blocking_of_weights(conv, w);
    const int64_t blocks = blocking.num_blocks(), capacity = centroids.shape[1];
    require_shape(centroids, {blocks, capacity, conv.sub_vector_length}, "centroids");
    require_shape(counts, {blocks}, "counts");
    void* table = output<uint8_t>(tensors, 0, {blocks, capacity, blocking.table_width()});
    const cuda::Execution own = execution(tensors, workspace.statistics);
    const auto scratch = lease(own, cuda::centroid_gemm_scratch(element(), blocking), workspace.statistics);
    cuda::centroid_gemm(own, element(), blocking, centroids.data, counts.as<int32_t>(), w.data, capacity, table,
                        scratch.data());
  }

  Layout layout_;
  int64_t group_;
};

class CudaGather final : public CudaKernel {
 public:
  CudaGather(const KernelInfo* info, const CudaSetup& setup)
      : CudaKernel(info, "Gather", setup),
        conv_(read_conv_attributes(KernelAttributes(info))),
        gather_(read_gather_attributes(KernelAttributes(info))) {}

 private:
  void run(KernelContext* tensors, Workspace&) const override {
    const TensorView table = input(tensors, 0), ids = input(tensors, 1), x = input(tensors, 2);
    require_rank(table, 3, "table");
    const Blocking blocking = make_blocking(conv_, x, out_channels_of(table, conv_));
    require_shape(table, {blocking.num_blocks(), table.shape[1], blocking.table_width()}, "table");
    require_shape(ids, {blocking.num_blocks(), blocking.vectors}, "ids");
    const void* bias = bias_data(input(tensors, 3), blocking.geometry.out_channels);
    void* y = output<uint8_t>(tensors, 0, output_shape(blocking.geometry));
    cuda::gather(execution(tensors), element(), blocking, gather_, table.data, table.shape[1], ids.as<int32_t>(), bias,
                 y);
  }

  ConvAttributes conv_;
  GatherAttributes gather_;
};

class CudaPool final : public CudaKernel {
 public:
  CudaPool(const KernelInfo* info, const CudaSetup& setup, PoolMode mode)
      : CudaKernel(info, mode == PoolMode::kMax ? "MaxPool" : "AveragePool", setup),
        pool_(read_pool_attributes(KernelAttributes(info), mode)) {}

 private:
  void run(KernelContext* tensors, Workspace&) const override {
    const TensorView x = input(tensors, 0);
    require_rank(x, 4, "X");
    const ImageShape shape = image_shape(x, DataOrder::kNhwc);
    const PoolAxis height = pool_axis(pool_, 0, shape.height), width = pool_axis(pool_, 1, shape.width);
    void* y = output<uint8_t>(tensors, 0, {shape.batch, height.out, width.out, shape.channels});
    cuda::pool(execution(tensors), element(), pool_, shape.batch, height, width, shape.channels, x.data, y);
  }

  PoolAttributes pool_;
};

}  // namespace

std::shared_ptr<StreamScratch> SharedScratch::get() {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::shared_ptr<StreamScratch> scratch = scratch_.lock();
  if (scratch == nullptr) scratch_ = scratch = std::make_shared<StreamScratch>();
  return scratch;
}

std::unique_ptr<Kernel> CudaKernelSource::make(OperatorName name, const KernelInfo* info) const {
  CudaSettings settings = CudaSettings::of_environment();
  settings.stages_timed |= stages_timed_;
  const CudaSetup setup{session_, element_, settings, scratch_->get()};
  switch (name) {
    case OperatorName::kHash:
      return std::make_unique<CudaHash>(info, setup);
    case OperatorName::kCluster:
      return std::make_unique<CudaCluster>(info, setup);
    case OperatorName::kCentroidGemm:
      return std::make_unique<CudaCentroidGemm>(info, setup);
    case OperatorName::kGather:
      return std::make_unique<CudaGather>(info, setup);
    case OperatorName::kReuseConv:
      return make_cuda_reuse_conv(info, setup);
    case OperatorName::kMaxPool:
      return std::make_unique<CudaPool>(info, setup, PoolMode::kMax);
    case OperatorName::kAveragePool:
      return std::make_unique<CudaPool>(info, setup, PoolMode::kAverage);
    case OperatorName::kRedundancy:
    case OperatorName::kHold:
    case OperatorName::kQLinearReuseConv:
    case OperatorName::kReuseConvInteger:
      break;  // on the CPU alone
  }
  return nullptr;
}

}  // namespace reuse::ort
