#include "cuda_reuse_conv.h"

#include <memory>
#include <optional>
#include <string>

#include "attributes.h"
#include "reuse/checked.h"
#include "static_memory.h"

namespace reuse::ort {
namespace {

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
    checked::require(!attributes_.incremental,
                     "incremental is 1, and only the kernels of the CPU keep sums: run the model there, or compile it "
                     "without --stream");
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
    return {attributes_.table, attributes_.keep_tables, attributes_.hash.given_clusters()};
  }
  size_t tensor_bytes(const TensorView& tensor) const {
    return static_cast<size_t>(tensor.size()) * (element() == cuda::Element::kHalf ? 2 : 4);
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
    table_bytes_ = bytes.tables;
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
    cuda::FusedCall call{element(),
                         blocking,
                         attributes_.hash,
                         attributes_.cluster,
                         attributes_.gather,
                         parameters,
                         x.data,
                         bias,
                         nullptr,
                         y,
                         sums()};
    workspace.statistics.table_bytes = table_bytes_;
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
  int64_t table_bytes_ = 0;                             // of static tables that are kept
  std::shared_ptr<const cuda::DeviceMemory> prepared_;  // of constant weights
};

}  // namespace

std::unique_ptr<Kernel> make_cuda_reuse_conv(const KernelInfo* info, const CudaSetup& setup) {
  return std::make_unique<CudaReuseConv>(info, setup);
}

}  // namespace reuse::ort
