#include "cuda_kernels.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "attributes.h"

namespace reuse::ort {
namespace {

// What a CUDA kernel is made from, besides its node.
struct CudaSetup {
  const std::string& session;
  cuda::Element element;
  std::shared_ptr<StreamScratch> scratch;
};

// REUSE_CUDA_TF32 of the environment forces one: 1 or 0.
std::optional<bool> forced_tf32() {
  const char* text = std::getenv("REUSE_CUDA_TF32");
  if (text == nullptr || std::strlen(text) != 1 || (*text != '0' && *text != '1')) return std::nullopt;
  return *text == '1';
}

// The provider's option use_tf32; false where the runtime does not tell.
bool provider_allows_tf32(const KernelContext* context) {
  constexpr int kResourceVersion = 3, kUseTf32 = 10011;  // of onnxruntime's cuda_resource.h
  void* resource = nullptr;
  using Reader = Status*(REUSE_ORT_CALL*)(const KernelContext*, int, int, void**);
  Status* status = api().get<Reader>(kKernelContextGetResource)(context, kResourceVersion, kUseTf32, &resource);
  if (status != nullptr) {
    api().get<void(REUSE_ORT_CALL*)(Status*)>(kReleaseStatus)(status);
    return false;
  }
  // The option's value comes in place of a pointer.
  return reinterpret_cast<uintptr_t>(resource) == 1;
}

// REUSE_CUDA_STAGES=1 times the stages of every ReuseConv, for which each of them is waited for.
bool stages_are_timed() {
  const char* text = std::getenv("REUSE_CUDA_STAGES");
  return text != nullptr && std::strcmp(text, "1") == 0;
}

size_t bytes_of(cuda::Element element) { return element == cuda::Element::kHalf ? 2 : 4; }

// Device memory for as long as a kernel lives.
class DeviceMemory {
 public:
  DeviceMemory(std::shared_ptr<KernelAllocator> allocator, size_t bytes)
      : allocator_(std::move(allocator)), bytes_(bytes), data_(ScratchAllocator(*allocator_).allocate(bytes)) {}
  ~DeviceMemory() { ScratchAllocator(*allocator_).release(data_, bytes_); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  void* data() const { return data_; }

 private:
  std::shared_ptr<KernelAllocator> allocator_;
  size_t bytes_;
  void* data_;
};

// Clusters, guarded vectors and runs that kernels have counted on the device.
class NodeCounts final : public DeviceCounts {
 public:
  explicit NodeCounts(const std::shared_ptr<KernelAllocator>& allocator) : memory_(allocator, sizeof(Sums)) {
    cuda::clear(memory_.data(), sizeof(Sums));
  }

  int64_t* sums() const { return static_cast<int64_t*>(memory_.data()); }

  // Remembers a run that the registry hears of by `add`.
  void note(const RunStatistics& run) {
    const std::lock_guard<std::mutex> lock(mutex_);
    latest_ = run;
    ++noted_;
  }

  NodeStatistics take() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    Sums now{};
    try {
      cuda::copy(&now, memory_.data(), sizeof(Sums));
    } catch (const std::exception&) {
      return {};  // the device is lost, and with it the counts
    }
    NodeStatistics fresh;
    fresh.runs = std::max<int64_t>(0, now.runs - seen_.runs - noted_);
    fresh.total.clusters = now.clusters - seen_.clusters;
    fresh.total.guarded = now.guarded - seen_.guarded;
    fresh.total.rows = fresh.runs * latest_.rows;
    fresh.total.vectors = fresh.runs * latest_.vectors;
    seen_ = now;
    noted_ = 0;
    return fresh;
  }

 private:
  struct Sums {
    int64_t clusters, guarded, runs;
  };

  DeviceMemory memory_;
  std::mutex mutex_;
  Sums seen_{};
  int64_t noted_ = 0;
  RunStatistics latest_;
};

class CudaKernel : public Kernel {
 public:
  CudaKernel(const KernelInfo* info, const char* op, const CudaSetup& setup)
      : Kernel(info, op, setup.session),
        element_(setup.element),
        scratch_(setup.scratch),
        device_(std::make_shared<KernelAllocator>(info)) {}

 protected:
  cuda::Element element() const { return element_; }
  const std::shared_ptr<KernelAllocator>& device() const { return device_; }

  cuda::Execution execution(const KernelContext* context) const {
    cuda::Execution result{nullptr, false};
    call(kKernelContextGetGpuComputeStream, context, &result.stream);
    const std::optional<bool> forced = forced_tf32();
    result.tf32 = forced ? *forced : provider_allows_tf32(context);
    return result;
  }

  // Memory that the run's kernels may use, and nobody else on that stream until the lease ends.
  StreamScratch::Lease lease(const cuda::Execution& execution, size_t bytes, RunStatistics& statistics) const {
    statistics.scratch_bytes += static_cast<int64_t>(bytes);
    return scratch_->lease(cuda::current_device(), execution.stream, device_, bytes);
  }

 private:
  cuda::Element element_;
  std::shared_ptr<StreamScratch> scratch_;
  std::shared_ptr<KernelAllocator> device_;
};

// A kernel whose clusters are counted on the device.
class CountingKernel : public CudaKernel {
 public:
  CountingKernel(const KernelInfo* info, const char* op, const CudaSetup& setup)
      : CudaKernel(info, op, setup), counts_(std::make_shared<NodeCounts>(device())) {
    StatisticsRegistry::instance().attach(session(), node(), counts_);
  }
  ~CountingKernel() override { StatisticsRegistry::instance().detach(session(), node(), counts_); }

 protected:
  int64_t* sums() const { return counts_->sums(); }

  void count(const Blocking& blocking, RunStatistics& statistics) const {
    statistics.blocks = blocking.num_blocks();
    statistics.rows = blocking.geometry.rows();
    statistics.vectors = blocking.num_blocks() * blocking.vectors;
    if (blocking.vectors > 0) counts_->note(statistics);
  }

 private:
  std::shared_ptr<NodeCounts> counts_;
};

// Copies a tensor that may be on either side to the host.
template <typename T>
std::vector<T> on_host(const TensorView& tensor) {
  std::vector<T> values(static_cast<size_t>(tensor.size()));
  if (!values.empty()) cuda::copy(values.data(), tensor.data, values.size() * sizeof(T));
  return values;
}

// Refuses a constant that would lead out of vectors; what is not constant the kernels clamp.
void check_constant_coordinates(const KernelInfo* info, size_t index, int64_t length) {
  const TensorView coordinates = constant_input(info, index);
  if (!coordinates.present()) return;
  const std::vector<int32_t> values = on_host<int32_t>(coordinates);
  check_coordinates(values.data(), static_cast<int64_t>(values.size()), length);
}

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
        cluster_(read_cluster_attributes(KernelAttributes(info))) {}

 private:
  void run(KernelContext* tensors, Workspace& workspace) const override {
    const TensorView x = input(tensors, 0), codes = input(tensors, 1);
    const Blocking blocking = make_blocking(conv_, x, conv_.group);
    const int64_t blocks = blocking.num_blocks();
    require_shape(codes, {blocks, blocking.vectors}, "codes");
    int32_t* ids = output<int32_t>(tensors, 0, {blocks, blocking.vectors});
    void* centroids = output<uint8_t>(tensors, 1, {blocks, cuda::cluster_rows(blocking), blocking.sub_vector_length()});
    int32_t* counts = output<int32_t>(tensors, 2, {blocks});
    const cuda::Execution own = execution(tensors);
    const auto scratch = lease(own, cuda::cluster_scratch(element(), blocking, cluster_), workspace.statistics);
    cuda::cluster(own, element(), blocking, cluster_, x.data, codes.as<int64_t>(), ids, centroids, counts, sums(),
                  scratch.data());
    count(blocking, workspace.statistics);
  }

  ConvAttributes conv_;
  ClusterAttributes cluster_;
};

class CudaCentroidGemm final : public CudaKernel {
 public:
  CudaCentroidGemm(const KernelInfo* info, const CudaSetup& setup)
      : CudaKernel(info, "CentroidGemm", setup),
        layout_(read_layout(KernelAttributes(info))),
        group_(KernelAttributes(info).integer("group").value_or(1)) {}

 private:
  void run(KernelContext* tensors, Workspace& workspace) const override {
    const TensorView centroids = input(tensors, 0), counts = input(tensors, 1), w = input(tensors, 2);
    const ConvAttributes conv = conv_of_tables(layout_, group_, centroids, w);
    const Blocking blocking = blocking_of_weights(conv, w);
    const int64_t blocks = blocking.num_blocks(), capacity = centroids.shape[1];
    require_shape(centroids, {blocks, capacity, conv.sub_vector_length}, "centroids");
    require_shape(counts, {blocks}, "counts");
    void* table = output<uint8_t>(tensors, 0, {blocks, capacity, blocking.table_width()});
    const cuda::Execution own = execution(tensors);
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
    const int64_t taps = conv_.layout == Layout::kPatch ? 1 : conv_.kernel_h * conv_.kernel_w;
    const Blocking blocking = make_blocking(conv_, x, table.shape[2] / taps * conv_.group);
    require_shape(table, {blocking.num_blocks(), table.shape[1], blocking.table_width()}, "table");
    require_shape(ids, {blocking.num_blocks(), blocking.vectors}, "ids");
    const void* bias = read_bias(tensors, 3, blocking.geometry.out_channels);
    void* y = output<uint8_t>(tensors, 0, output_shape(blocking.geometry));
    cuda::gather(execution(tensors), element(), blocking, gather_, table.data, table.shape[1], ids.as<int32_t>(), bias,
                 y);
  }

  ConvAttributes conv_;
  GatherAttributes gather_;
};

class CudaReuseConv final : public CountingKernel {
 public:
  CudaReuseConv(const KernelInfo* info, const CudaSetup& setup)
      : CountingKernel(info, "ReuseConv", setup),
        conv_(read_conv_attributes(KernelAttributes(info))),
        hash_(read_hash_attributes(KernelAttributes(info))),
        cluster_(read_cluster_attributes(KernelAttributes(info))),
        gather_(read_gather_attributes(KernelAttributes(info))),
        stages_are_timed_(stages_are_timed()) {
    parse_table_type(KernelAttributes(info).text("table").value_or("float"));  // says no more than a float16 table does
    read_data_orders(KernelAttributes(info), conv_);
    check_constant_coordinates(info, 5, conv_.sub_vector_length);
    const TensorView w = constant_input(info, 1);
    if (w.present()) pack_once(w);
  }

 private:
  void pack_once(const TensorView& w) {
    check_weights(w, conv_, std::nullopt);
    const Blocking blocking = blocking_of_weights(conv_, w);
    const size_t bytes = static_cast<size_t>(w.size()) * bytes_of(element());
    const DeviceMemory weights(device(), bytes);
    cuda::copy(weights.data(), w.data, bytes);
    packed_ = std::make_unique<DeviceMemory>(device(), cuda::packed_weights_bytes(element(), blocking));
    cuda::pack_weights({nullptr, false}, element(), blocking, weights.data(), packed_->data());
    cuda::wait();
  }

  void run(KernelContext* tensors, Workspace& workspace) const override {
    const TensorView x = input(tensors, 0), w = input(tensors, 1);
    require_rank(x, 4, "X");
    check_weights(w, conv_, image_shape(x, conv_.input_order).channels);
    const Blocking blocking = make_blocking(conv_, x, w.shape[0]);
    const void* bias = read_bias(tensors, 2, w.shape[0]);
    const HashParameters parameters = read_hash_parameters(tensors, 3, hash_, blocking);
    void* y = output<uint8_t>(tensors, 0, output_shape(blocking.geometry));
    const cuda::Execution own = execution(tensors);
    cuda::FusedCall fused{element(), blocking, hash_, cluster_, gather_, parameters, x.data, bias, nullptr, y, sums()};
    const size_t packed_bytes = packed_ ? 0 : cuda::packed_weights_bytes(element(), blocking);
    const auto scratch = lease(own, packed_bytes + cuda::reuse_conv_scratch(own, fused), workspace.statistics);
    if (!packed_) cuda::pack_weights(own, element(), blocking, w.data, scratch.data());
    fused.packed_weights = packed_ ? packed_->data() : scratch.data();
    const bool timed = stages_are_timed_ && !cuda::is_capturing(own.stream);
    cuda::reuse_conv(own, fused, static_cast<char*>(scratch.data()) + packed_bytes,
                     timed ? &workspace.statistics : nullptr);
    count(blocking, workspace.statistics);
  }

  ConvAttributes conv_;
  HashAttributes hash_;
  ClusterAttributes cluster_;
  GatherAttributes gather_;
  bool stages_are_timed_;
  std::unique_ptr<DeviceMemory> packed_;  // constant weights
};

class CudaPool final : public CudaKernel {
 public:
  CudaPool(const KernelInfo* info, const CudaSetup& setup)
      : CudaKernel(info, "Pool", setup), pool_(read_pool_attributes(KernelAttributes(info))) {}

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
  const CudaSetup setup{session_, element_, scratch_->get()};
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
    case OperatorName::kPool:
      return std::make_unique<CudaPool>(info, setup);
  }
  return nullptr;
}

}  // namespace reuse::ort
