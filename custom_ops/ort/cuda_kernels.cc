#include "cuda_kernels.h"

#include <utility>

#include "attributes.h"
#include "cuda_settings.h"
#include "node_counts.h"
#include "reuse/checked.h"
#include "reuse/cuda_device.h"
#include "static_memory.h"

namespace reuse::ort {
namespace {

// What a CUDA kernel is made from, besides its node.
struct CudaSetup {
  const std::string& session;
  cuda::Element element;
  CudaSettings settings;
  std::shared_ptr<StreamScratch> scratch;
};

size_t bytes_of(cuda::Element element) { return element == cuda::Element::kHalf ? 2 : 4; }

// The session's allocator of device memory, for as long as some of its memory is in use.
class SessionAllocator final : public Allocator {
 public:
  explicit SessionAllocator(const KernelInfo* info) : kernel_(info), memory_(kernel_) {}
  void* allocate(size_t bytes) override { return memory_.allocate(bytes); }
  void release(void* memory, size_t bytes) noexcept override { memory_.release(memory, bytes); }
  int device() const { return kernel_.device(); }

 private:
  KernelAllocator kernel_;
  ScratchAllocator memory_;
};

std::shared_ptr<cuda::DeviceAllocator> device_allocator(const KernelInfo* info) {
  const auto own = std::make_shared<SessionAllocator>(info);
  return std::make_shared<cuda::DeviceAllocator>(cuda::device_api(), own->device(), own);
}

// Our stream on a device, which all sessions share.
std::shared_ptr<cuda::CopyStream> copy_stream(int device) {
  static auto* const streams = new cuda::CopyStreams;  // never destroyed, as the registry of statistics
  return streams->get(cuda::device_api(), device);
}

// Refuses scope session: its clusters would have to come back from the device before a run can end.
void require_cuda_scope(const ClusterAttributes& attributes) {
  checked::require(attributes.scope != Scope::kSession,
                   "scope session has no CUDA kernel: give the node to the CPU provider, or choose another scope");
}

class CudaKernel : public Kernel {
 public:
  CudaKernel(const KernelInfo* info, const char* op, const CudaSetup& setup)
      : Kernel(info, op, setup.session),
        element_(setup.element),
        forced_tf32_(setup.settings.tf32),
        scratch_(setup.scratch),
        memory_(device_allocator(info)),
        copies_(copy_stream(memory_->device())) {}

 protected:
  cuda::Element element() const { return element_; }
  // The session's device, whatever the calling thread's is.
  int device() const { return memory_->device(); }
  const std::shared_ptr<cuda::DeviceAllocator>& memory() const { return memory_; }
  const std::shared_ptr<cuda::CopyStream>& copies() const { return copies_; }

  // Of a run without products.
  cuda::Execution execution(const KernelContext* context) const {
    cuda::Execution result{nullptr, false};
    call(kKernelContextGetGpuComputeStream, context, &result.stream);
    return result;
  }

  // Of a run with products, which may be in TF32 if they are of float32.
  cuda::Execution execution(const KernelContext* context, RunStatistics& statistics) const {
    cuda::Execution result = execution(context);
    if (element_ == cuda::Element::kHalf) return result;
    statistics.tf32 = forced_tf32_ ? forced_tf32_ : provider_allows_tf32(context);
    result.tf32 = statistics.tf32.value_or(false);
    return result;
  }

  // Memory that the run's kernels may use, and nobody else on that stream until the lease ends.
  StreamScratch::Lease lease(const cuda::Execution& execution, size_t bytes, RunStatistics& statistics) const {
    statistics.scratch_bytes += static_cast<int64_t>(bytes);
    return scratch_->lease(device(), execution.stream, memory_, bytes);
  }

  // Refuses a constant that would lead out of vectors; what is not constant the kernels clamp.
  void check_constant_coordinates(const KernelInfo* info, size_t index, int64_t length) const {
    const TensorView coordinates = constant_input(info, index);
    if (!coordinates.present()) return;
    std::vector<int32_t> values(static_cast<size_t>(coordinates.size()));
    copies_->read(values.data(), coordinates.data, values.size() * sizeof(int32_t));
    check_coordinates(values.data(), static_cast<int64_t>(values.size()), length);
  }

 private:
  cuda::Element element_;
  std::optional<bool> forced_tf32_;
  std::shared_ptr<StreamScratch> scratch_;
  std::shared_ptr<cuda::DeviceAllocator> memory_;
  std::shared_ptr<cuda::CopyStream> copies_;
};

// A kernel whose clusters are counted on the device.
class CountingKernel : public CudaKernel {
 public:
  CountingKernel(const KernelInfo* info, const char* op, const CudaSetup& setup)
      : CudaKernel(info, op, setup), sums_(memory(), sizeof(NodeCounts::Sums)) {
    copies()->clear(sums_.data(), sizeof(NodeCounts::Sums));
    counts_ = std::make_shared<NodeCounts>([this] {
      NodeCounts::Sums sums{};
      copies()->read(&sums, sums_.data(), sizeof sums);
      return sums;
    });
    StatisticsRegistry::instance().attach(session(), node(), counts_);
  }
  ~CountingKernel() override { StatisticsRegistry::instance().detach(session(), node(), counts_); }

 protected:
  int64_t* sums() const { return static_cast<int64_t*>(sums_.data()); }

  // Enqueues a run by calling `launch`.
  template <typename Launch>
  void counted(const Blocking& blocking, RunStatistics& statistics, const Launch& launch) const {
    statistics.blocks = blocking.num_blocks();
    statistics.rows = blocking.geometry.rows();
    statistics.vectors = blocking.num_blocks() * blocking.vectors;
    // The device counts no run that has nothing to do.
    if (blocking.vectors == 0) return launch();
    counts_->note(statistics);
    try {
      launch();
    } catch (...) {
      counts_->withdraw();
      throw;
    }
  }

 private:
  cuda::DeviceMemory sums_;
  std::shared_ptr<NodeCounts> counts_;  // reads `sums_`, but not after it is detached
};

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
    require_given(given, cluster_);
    if (is_static) require_shape(given, {blocks, given.shape[1], length}, "given");
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

// What nodes of scope static have made, in all sessions.
StaticMemories& static_memories() {
  static auto* const memories = new StaticMemories;  // never destroyed, as the registry of statistics
  return *memories;
}

class CudaReuseConv final : public CountingKernel {
 public:
  CudaReuseConv(const KernelInfo* info, const CudaSetup& setup)
      : CountingKernel(info, "ReuseConv", setup),
        attributes_(read_reuse_attributes(KernelAttributes(info))),
        stages_are_timed_(setup.settings.stages_timed) {
    require_cuda_scope(attributes_.cluster);
    check_constant_coordinates(info, 5, attributes_.conv.sub_vector_length);
    const TensorView w = constant_input(info, 1), centroids = constant_input(info, kCentroids);
    if (is_static()) {
      for (const size_t index : {size_t{1}, size_t{2}, size_t{3}, size_t{4}, size_t{5}, kCentroids}) {
        checked::require(fixed_input(info, index).has_value(), kNotConstant);
      }
      make_static(w, centroids);
    } else {
      checked::require(!has_elements(centroids), "centroids are for scope static only");
      if (w.present()) pack_once(w);
    }
  }

 private:
  bool is_static() const { return attributes_.cluster.scope == Scope::kStatic; }
  cuda::StaticSettings static_settings() const {
    return {attributes_.table, attributes_.keep_tables, attributes_.given_clusters()};
  }
  size_t tensor_bytes(const TensorView& tensor) const {
    return static_cast<size_t>(tensor.size()) * bytes_of(element());
  }

  // Calls `prepare` with the weights in device memory, and waits: ONNX Runtime's streams do not wait for ours, so what
  // it enqueues must be done before the first run.
  template <typename Prepare>
  std::shared_ptr<const cuda::DeviceMemory> prepared(const TensorView& w, size_t bytes, const Prepare& prepare) const {
    const cuda::DeviceScope scope(cuda::device_api(), device());
    const cuda::DeviceMemory weights(memory(), tensor_bytes(w));
    copies()->copy(weights.data(), w.data, tensor_bytes(w));
    const auto result = std::make_shared<const cuda::DeviceMemory>(memory(), bytes);
    prepare(weights.data(), result->data());
    copies()->wait();
    return result;
  }

  void pack_once(const TensorView& w) {
    check_weights(w, attributes_.conv, std::nullopt);
    const Blocking blocking = blocking_of_weights(attributes_.conv, w);
    prepared_ = prepared(w, cuda::packed_weights_bytes(element(), blocking), [&](const void* weights, void* packed) {
      cuda::pack_weights({copies()->handle(), false}, element(), blocking, weights, packed);
    });
  }

  void make_static(const TensorView& w, const TensorView& centroids) {
    const ConvAttributes& conv = attributes_.conv;
    check_weights(w, conv, std::nullopt);
    const Blocking blocking = blocking_of_weights(conv, w);
    const cuda::StaticSettings settings = static_settings();
    require_shape(centroids, {blocking.num_blocks(), settings.clusters, conv.sub_vector_length}, "centroids");
    const int64_t sizes[] = {device(),
                             static_cast<int64_t>(element()),
                             static_cast<int64_t>(settings.type),
                             settings.keep ? 1 : 0,
                             settings.clusters,
                             w.shape[0],
                             w.shape[1],
                             conv.kernel_h,
                             conv.kernel_w,
                             conv.group,
                             static_cast<int64_t>(conv.layout),
                             conv.sub_vector_length};
    std::string content(reinterpret_cast<const char*>(sizes), sizeof sizes);
    for (const TensorView* tensor : {&w, &centroids}) {
      const size_t size = content.size();
      content.resize(size + tensor_bytes(*tensor));
      copies()->read(content.data() + size, tensor->data, tensor_bytes(*tensor));
    }
    const cuda::StaticBytes bytes = cuda::static_bytes(element(), blocking, settings);
    prepared_ = static_memories().get(content, [&] {
      return prepared(w, bytes.all, [&](const void* weights, void* memory) {
        cuda::make_static(*copies(), element(), blocking, settings, weights, centroids.data, memory);
      });
    });
  }

  void run(KernelContext* tensors, Workspace& workspace) const override {
    const ConvAttributes& conv = attributes_.conv;
    const TensorView x = input(tensors, 0), w = input(tensors, 1);
    require_rank(x, 4, "X");
    check_weights(w, conv, image_shape(x, conv.input_order).channels);
    const Blocking blocking = make_blocking(conv, x, w.shape[0]);
    const void* bias = bias_data(input(tensors, 2), w.shape[0]);
    const HashParameters parameters = read_hash_parameters(tensors, 3, attributes_.hash, blocking);
    void* y = output<uint8_t>(tensors, 0, output_shape(blocking.geometry));
    // Static products are never rounded to TF32.
    const cuda::Execution own = is_static() ? execution(tensors) : execution(tensors, workspace.statistics);
    cuda::FusedCall call{element(),  blocking, attributes_.hash, attributes_.cluster, attributes_.gather,
                         parameters, x.data,   bias,             nullptr,             y,
                         sums()};
    const size_t packed_bytes = prepared_ ? 0 : cuda::packed_weights_bytes(element(), blocking);
    const size_t bytes =
        is_static() ? cuda::static_conv_scratch(call, static_settings()) : cuda::reuse_conv_scratch(own, call);
    const auto lent = lease(own, packed_bytes + bytes, workspace.statistics);
    if (!prepared_) cuda::pack_weights(own, element(), blocking, w.data, lent.data());
    call.prepared = prepared_ ? prepared_->data() : lent.data();
    void* const scratch = static_cast<char*>(lent.data()) + packed_bytes;
    const bool timed = stages_are_timed_ && !cuda::is_capturing(own.stream);
    RunStatistics* const times = timed ? &workspace.statistics : nullptr;
    std::optional<cuda::DeviceScope> scope;
    if (timed) scope.emplace(cuda::device_api(), device());  // as the stages are waited for
    counted(blocking, workspace.statistics, [&] {
      if (is_static()) {
        cuda::static_conv(own, call, static_settings(), scratch, times);
      } else {
        cuda::reuse_conv(own, call, scratch, times);
      }
    });
  }

  ReuseAttributes attributes_;
  bool stages_are_timed_;
  std::shared_ptr<const cuda::DeviceMemory> prepared_;  // of constant weights
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
      return std::make_unique<CudaReuseConv>(info, setup);
    case OperatorName::kMaxPool:
      return std::make_unique<CudaPool>(info, setup, PoolMode::kMax);
    case OperatorName::kAveragePool:
      return std::make_unique<CudaPool>(info, setup, PoolMode::kAverage);
    case OperatorName::kRedundancy:
      break;  // on the CPU alone
  }
  return nullptr;
}

}  // namespace reuse::ort
