// The operators on a GPU: element types and modes chosen, kernels launched.
#include <optional>

#include "device_launcher.h"
#include "reuse/cuda_device.h"
#include "static_conv.h"

namespace reuse::cuda {
namespace {

template <typename T>
struct Type {
  using Own = T;
};

// Calls body(Type<T>{}) with the element type.
template <typename Body>
auto with_element(Element element, const Body& body) {
  return element == Element::kHalf ? body(Type<Half>{}) : body(Type<float>{});
}

// Calls body(Type<Run>{}) with the form of ReuseConv that the element type and the provider's settings ask for.
template <typename Body>
auto with_fused(const Execution& execution, Element element, const Body& body) {
  if (element == Element::kHalf) return body(Type<TensorFused<Half>>{});
  return execution.tf32 ? body(Type<TensorFused<float>>{}) : body(Type<StrictFused<float>>{});
}

// The same for scope static.
template <typename Body>
auto with_static(Element element, TableType table, const Body& body) {
  if (element == Element::kHalf) {
    return table == TableType::kInt8 ? body(Type<StaticConv<Half, int8_t>>{}) : body(Type<StaticConv<Half, Half>>{});
  }
  return table == TableType::kInt8 ? body(Type<StaticConv<float, int8_t>>{}) : body(Type<StaticConv<float, float>>{});
}

template <typename T>
const T* as(const void* pointer) {
  return static_cast<const T*>(pointer);
}
template <typename T>
T* as(void* pointer) {
  return static_cast<T*>(pointer);
}

Panels fused_panels(const Shape& shape) { return make_panels(shape, tile_channels_of(shape)); }

template <typename T>
FusedOperands<T> operands_of(const FusedCall& call) {
  return {as<T>(call.x), as<T>(call.bias), make_hash(call.hash, call.parameters), make_activation(call.gather),
          as<T>(call.y), call.statistics};
}

// Calls body(launcher) with a launcher whose stages are timed if they are wanted.
template <typename Body>
void launch_timed(const Execution& execution, RunStatistics* times, const Body& body) {
  std::optional<StageTimes> stages;
  if (times != nullptr) stages.emplace(static_cast<cudaStream_t>(execution.stream), *times);
  DeviceLauncher launcher(execution, stages ? &*stages : nullptr);
  body(launcher);
}

template <typename Run>
FusedPlan plan_of(const FusedCall& call) {
  return Run::plan(call.blocking, make_hash(call.hash, call.parameters), call.cluster);
}

}  // namespace

size_t packed_weights_bytes(Element element, const Blocking& blocking) {
  return with_element(element, [&](auto type) {
    using T = typename decltype(type)::Own;
    Arena arena(nullptr);
    PackedWeightsView<T>::take(arena, fused_panels(make_shape(blocking)));
    return arena.used();
  });
}

void pack_weights(const Execution& execution, Element element, const Blocking& blocking, const void* weights,
                  void* packed) {
  with_element(element, [&](auto type) {
    using T = typename decltype(type)::Own;
    DeviceLauncher launcher(execution, nullptr);
    Arena arena(packed);
    const Shape shape = make_shape(blocking);
    const Panels panels = fused_panels(shape);
    pack_weights(launcher, shape, panels, as<T>(weights), PackedWeightsView<T>::take(arena, panels));
  });
}

size_t reuse_conv_scratch(const Execution& execution, const FusedCall& call) {
  return with_fused(execution, call.element, [&](auto type) {
    using Run = typename decltype(type)::Own;
    return Run(plan_of<Run>(call)).scratch_bytes();
  });
}

void reuse_conv(const Execution& execution, const FusedCall& call, void* scratch, RunStatistics* times) {
  launch_timed(execution, times, [&](DeviceLauncher& launcher) {
    with_fused(execution, call.element, [&](auto type) {
      using Run = typename decltype(type)::Own;
      using T = typename Run::Packed;
      const FusedPlan plan = plan_of<Run>(call);
      Arena arena(const_cast<void*>(call.prepared));
      const auto weights = PackedWeightsView<T>::take(arena, plan.panels);
      Run(plan).run(launcher, operands_of<T>(call), weights, scratch);
    });
  });
}

StaticBytes static_bytes(Element element, const Blocking& blocking, const StaticSettings& tables) {
  return with_static(element, tables.type, [&](auto type) {
    const typename decltype(type)::Own conv(blocking, tables.clusters, tables.keep);
    Arena arena(nullptr);
    conv.take(arena);
    return StaticBytes{arena.used(), conv.table_bytes()};
  });
}

void make_static(CopyStream& stream, Element element, const Blocking& blocking, const StaticSettings& tables,
                 const void* weights, const void* centroids, void* memory) {
  with_static(element, tables.type, [&](auto type) {
    using Conv = typename decltype(type)::Own;
    const Conv conv(blocking, tables.clusters, tables.keep);
    Arena arena(memory);
    const auto own = conv.take(arena);
    stream.copy(own.centroids, centroids, conv.centroid_bytes());
    DeviceLauncher launcher({stream.handle(), false}, nullptr);
    conv.prepare(launcher, own, as<typename Conv::Image>(weights));
    std::vector<uint32_t> largest(static_cast<size_t>(conv.num_largest()));
    stream.read(largest.data(), own.largest, largest.size() * sizeof(uint32_t));
    const std::vector<float> scales = conv.scales(largest);
    if (!scales.empty()) stream.copy(own.scales, scales.data(), scales.size() * sizeof(float));
    conv.write_table(launcher, own);
    stream.wait();
  });
}

size_t static_conv_scratch(const FusedCall& call, const StaticSettings& tables) {
  return with_static(call.element, tables.type, [&](auto type) {
    return typename decltype(type)::Own(call.blocking, tables.clusters, tables.keep).scratch_bytes();
  });
}

void static_conv(const Execution& execution, const FusedCall& call, const StaticSettings& tables, void* scratch,
                 RunStatistics* times) {
  launch_timed(execution, times, [&](DeviceLauncher& launcher) {
    with_static(call.element, tables.type, [&](auto type) {
      using Conv = typename decltype(type)::Own;
      const Conv conv(call.blocking, tables.clusters, tables.keep);
      Arena arena(const_cast<void*>(call.prepared));
      conv.run(launcher, conv.take(arena), operands_of<typename Conv::Image>(call), scratch);
    });
  });
}

void hash(const Execution& execution, Element element, const Blocking& blocking, const HashAttributes& attributes,
          const HashParameters& parameters, const void* x, int64_t* codes) {
  with_element(element, [&](auto type) {
    using T = typename decltype(type)::Own;
    DeviceLauncher launcher(execution, nullptr);
    run_hash(launcher, make_shape(blocking), make_hash(attributes, parameters), as<T>(x), codes);
  });
}

int64_t cluster_rows(const Blocking& blocking) { return StagedCluster<float>(blocking, {}).rows(); }

size_t cluster_scratch(Element element, const Blocking& blocking, const ClusterAttributes& attributes) {
  return with_element(element, [&](auto type) {
    using T = typename decltype(type)::Own;
    return StagedCluster<T>(blocking, attributes).scratch_bytes();
  });
}

void cluster(const Execution& execution, Element element, const Blocking& blocking, const ClusterAttributes& attributes,
             const void* x, const int64_t* codes, int32_t* ids, void* centroids, int32_t* counts, int64_t* statistics,
             void* scratch) {
  with_element(element, [&](auto type) {
    using T = typename decltype(type)::Own;
    DeviceLauncher launcher(execution, nullptr);
    StagedCluster<T>(blocking, attributes)
        .run(launcher, as<T>(x), codes, ids, as<T>(centroids), counts, statistics, scratch);
  });
}

int64_t given_rows(const Blocking& blocking, int64_t clusters) {
  return GivenClusters<float>(blocking, clusters).rows();
}

size_t given_scratch(Element element, const Blocking& blocking, int64_t clusters) {
  return with_element(element, [&](auto type) {
    using T = typename decltype(type)::Own;
    return GivenClusters<T>(blocking, clusters).scratch_bytes();
  });
}

void given_clusters(const Execution& execution, Element element, const Blocking& blocking, const void* given,
                    int64_t clusters, const void* x, const int64_t* codes, int32_t* ids, void* centroids,
                    int32_t* counts, int64_t* statistics, void* scratch) {
  with_element(element, [&](auto type) {
    using T = typename decltype(type)::Own;
    DeviceLauncher launcher(execution, nullptr);
    GivenClusters<T>(blocking, clusters)
        .run(launcher, as<T>(x), codes, as<T>(given), ids, as<T>(centroids), counts, statistics, scratch);
  });
}

size_t centroid_gemm_scratch(Element element, const Blocking& blocking) {
  return with_element(element, [&](auto type) {
    using T = typename decltype(type)::Own;
    return StagedProduct<T, TensorProduct<T>>(blocking, 1).scratch_bytes();
  });
}

void centroid_gemm(const Execution& execution, Element element, const Blocking& blocking, const void* centroids,
                   const int32_t* counts, const void* weights, int64_t capacity, void* table, void* scratch) {
  DeviceLauncher launcher(execution, nullptr);
  const auto run = [&](auto type, auto product) {
    using T = typename decltype(type)::Own;
    using Product = typename decltype(product)::Own;
    StagedProduct<T, Product>(blocking, capacity)
        .run(launcher, as<T>(centroids), counts, as<T>(weights), as<T>(table), scratch);
  };
  if (element == Element::kHalf) {
    run(Type<Half>{}, Type<TensorProduct<Half>>{});
  } else if (execution.tf32) {
    run(Type<float>{}, Type<TensorProduct<float>>{});
  } else {
    run(Type<float>{}, Type<StrictProduct>{});
  }
}

void gather(const Execution& execution, Element element, const Blocking& blocking, const GatherAttributes& attributes,
            const void* table, int64_t capacity, const int32_t* ids, const void* bias, void* y) {
  with_element(element, [&](auto type) {
    using T = typename decltype(type)::Own;
    DeviceLauncher launcher(execution, nullptr);
    run_gather(launcher, make_shape(blocking), make_activation(attributes), as<T>(table), capacity, ids, as<T>(bias),
               as<T>(y));
  });
}

void pool(const Execution& execution, Element element, const PoolAttributes& attributes, int64_t batch,
          const PoolAxis& height, const PoolAxis& width, int64_t channels, const void* x, void* y) {
  with_element(element, [&](auto type) {
    using T = typename decltype(type)::Own;
    DeviceLauncher launcher(execution, nullptr);
    run_pool(launcher, attributes, batch, height, width, channels, as<T>(x), as<T>(y));
  });
}

bool is_capturing(void* stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(static_cast<cudaStream_t>(stream), &status), "asking a stream for its capture");
  return status != cudaStreamCaptureStatusNone;
}

namespace {

// Throws CUDA's message. The error is taken off the thread's record: the next launch there is not to blame for it.
void check_device(cudaError_t status, const char* what) {
  if (status != cudaSuccess) cudaGetLastError();
  check(status, what);
}

class RuntimeApi final : public DeviceApi {
 public:
  CaptureMode exchange_capture_mode(CaptureMode mode) override {
    static_assert(static_cast<int>(CaptureMode::kGlobal) == cudaStreamCaptureModeGlobal);
    static_assert(static_cast<int>(CaptureMode::kThreadLocal) == cudaStreamCaptureModeThreadLocal);
    static_assert(static_cast<int>(CaptureMode::kRelaxed) == cudaStreamCaptureModeRelaxed);
    auto exchanged = static_cast<cudaStreamCaptureMode>(mode);
    check_device(cudaThreadExchangeStreamCaptureMode(&exchanged), "setting how the thread heeds captures");
    return static_cast<CaptureMode>(exchanged);
  }

  int current_device() override {
    int device = 0;
    check_device(cudaGetDevice(&device), "asking for the device");
    return device;
  }
  void set_device(int device) override { check_device(cudaSetDevice(device), "choosing a device"); }

  void* create_stream() override {
    cudaStream_t stream = nullptr;
    check_device(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream");
    return stream;
  }
  void destroy_stream(void* stream) noexcept override {
    if (cudaStreamDestroy(static_cast<cudaStream_t>(stream)) != cudaSuccess) cudaGetLastError();
  }

  void* allocate_host(size_t bytes) override {
    void* memory = nullptr;
    check_device(cudaMallocHost(&memory, bytes), "allocating page-locked memory");
    return memory;
  }
  void release_host(void* memory) noexcept override {
    if (cudaFreeHost(memory) != cudaSuccess) cudaGetLastError();
  }

  void copy(void* to, const void* from, size_t bytes, void* stream) override {
    check_device(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, static_cast<cudaStream_t>(stream)),
                 "copying memory");
  }
  void clear(void* memory, size_t bytes, void* stream) override {
    check_device(cudaMemsetAsync(memory, 0, bytes, static_cast<cudaStream_t>(stream)), "clearing memory");
  }
  void wait(void* stream) override {
    check_device(cudaStreamSynchronize(static_cast<cudaStream_t>(stream)), "waiting for a stream");
  }
};

}  // namespace

DeviceApi& device_api() {
  // Never destroyed: kernels of a session that outlives static destruction still give their memory back.
  static RuntimeApi* const api = new RuntimeApi;
  return *api;
}

}  // namespace reuse::cuda
