// The entry point that ONNX Runtime looks for in a library of operators, and the table of operators.
#include "register.h"

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#ifdef REUSE_HAVE_CUDA
#include "cuda_kernels.h"
#endif
#include "kernels.h"
#include "reuse/capi.h"
#include "reuse/isa.h"
#include "shape_inference.h"

namespace reuse::ort {
namespace {

constexpr const char* kDomain = "ai.reuse";
constexpr const char* kSessionTagKey = "ai.reuse.session";
constexpr const char* kStagesKey = "ai.reuse.stages";

struct Signature {
  const char* name;
  std::vector<ElementType> inputs;
  size_t required_inputs;
  std::vector<ElementType> outputs;
  size_t optional_outputs = 0;  // the last ones
};

// An operator as the runtime sees it: function pointers first, so that a CustomOp* is an Operator*.
struct Operator : CustomOp {
  Signature signature;
  OperatorName name;
  const char* provider;  // null: the CPU's
  std::shared_ptr<const KernelSource> source;
};

const Operator& self(const CustomOp* op) { return *static_cast<const Operator*>(op); }

// Where the kernels of a set of operators come from, and of which element type they are.
struct KernelSet {
  ElementType element;
  const char* provider;
  std::shared_ptr<const KernelSource> source;
};

template <void (*infer)(ShapeInferContext*)>
std::unique_ptr<Operator> make_operator(OperatorName name, Signature signature, const KernelSet& set) {
  auto op = std::make_unique<Operator>();
  static_cast<CustomOp&>(*op) = CustomOp{};
  op->signature = std::move(signature);
  op->name = name;
  op->provider = set.provider;
  op->source = set.source;
  op->version = kApiVersion;
  op->get_name = [](const CustomOp* o) { return self(o).signature.name; };
  op->get_execution_provider = [](const CustomOp* o) { return self(o).provider; };
  op->get_input_type = [](const CustomOp* o, size_t i) { return self(o).signature.inputs[i]; };
  op->get_input_count = [](const CustomOp* o) { return self(o).signature.inputs.size(); };
  op->get_output_type = [](const CustomOp* o, size_t i) { return self(o).signature.outputs[i]; };
  op->get_output_count = [](const CustomOp* o) { return self(o).signature.outputs.size(); };
  op->get_input_characteristic = [](const CustomOp* o, size_t i) {
    return i < self(o).signature.required_inputs ? kRequired : kOptional;
  };
  op->get_output_characteristic = [](const CustomOp* o, size_t i) {
    const Signature& own = self(o).signature;
    return i + own.optional_outputs < own.outputs.size() ? kRequired : kOptional;
  };
  op->get_input_memory_type = [](const CustomOp*, size_t) { return kMemoryDefault; };
  op->create_kernel_v2 = [](const CustomOp* o, const Api*, const KernelInfo* info, void** kernel) -> Status* {
    return guarded([&] {
      naming(self(o).signature.name, node_name(info),
             [&] { *kernel = self(o).source->make(self(o).name, info).release(); });
    });
  };
  op->kernel_compute_v2 = [](void* kernel, KernelContext* context) -> Status* {
    return guarded([&] { static_cast<const Kernel*>(kernel)->compute(context); });
  };
  op->kernel_destroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  op->infer_output_shape = [](const CustomOp*, ShapeInferContext* context) -> Status* {
    try {
      infer(context);
    } catch (const std::exception&) {
      return nullptr;  // the runtime would ignore and leak a status; see shape_inference.h
    }
    return nullptr;
  };
  op->get_start_version = [](const CustomOp*) { return 1; };
  op->get_end_version = [](const CustomOp*) { return 1; };
  return op;
}

// Inputs followed by the parameters of a hash: projections, thresholds, coordinates.
std::vector<ElementType> with_parameters(std::vector<ElementType> inputs) {
  inputs.insert(inputs.end(), {kFloat, kFloat, kInt32});
  return inputs;
}

// Adds all operators for images, weights and tables of the set's element type; parameters of hashing are float32
// always. The kernels do not read the inputs dense_weights and dense_bias, which are for the functions of the same
// names that a compiled model brings along (docs/operators.md, Function bodies).
void add_operators(const KernelSet& set, std::vector<std::unique_ptr<Operator>>& ops) {
  const ElementType e = set.element;
  ops.push_back(make_operator<infer_hash>(OperatorName::kHash, {"Hash", with_parameters({e}), 1, {kInt64}}, set));
  ops.push_back(
      make_operator<infer_cluster>(OperatorName::kCluster, {"Cluster", {e, kInt64, e}, 2, {kInt32, e, kInt32}}, set));
  ops.push_back(make_operator<infer_centroid_gemm>(OperatorName::kCentroidGemm,
                                                   {"CentroidGemm", {e, kInt32, e, e}, 3, {e}}, set));
  ops.push_back(make_operator<infer_gather>(OperatorName::kGather, {"Gather", {e, kInt32, e, e, e}, 3, {e}}, set));
  std::vector<ElementType> convolved = with_parameters({e, e, e});
  convolved.insert(convolved.end(), {e, e, e});  // dense_weights, dense_bias, centroids
  ops.push_back(make_operator<infer_reuse_conv>(OperatorName::kReuseConv, {"ReuseConv", convolved, 2, {e}}, set));
  ops.push_back(make_operator<infer_pool>(OperatorName::kMaxPool, {"MaxPool", {e}, 1, {e}}, set));
  ops.push_back(make_operator<infer_pool>(OperatorName::kAveragePool, {"AveragePool", {e}, 1, {e}}, set));
}

// Adds the convolutions of bytes for each combination of the types of x, w and y.
void add_quantised(const KernelSet& set, std::vector<std::unique_ptr<Operator>>& ops) {
  for (const ElementType x : {kUint8, kInt8}) {
    for (const ElementType w : {kUint8, kInt8}) {
      ops.push_back(make_operator<infer_reuse_conv_integer>(
          OperatorName::kReuseConvInteger, {"ReuseConvInteger", {x, w, x, w, kFloat, kFloat}, 5, {kFloat}}, set));
      for (const ElementType y : {kUint8, kInt8}) {
        std::vector<ElementType> inputs = with_parameters({x, kFloat, x, w, kFloat, w, kFloat, y, kInt32});
        inputs.insert(inputs.end(), {kFloat, kFloat, kFloat});  // centroids, fitted_weights, fitted_bias
        ops.push_back(make_operator<infer_qlinear_reuse_conv>(OperatorName::kQLinearReuseConv,
                                                              {"QLinearReuseConv", inputs, 8, {y}}, set));
      }
    }
  }
}

// `stages_timed`: whether CUDA's ReuseConv times its stages, whatever the environment says.
std::vector<std::unique_ptr<Operator>> make_operators(const std::string& session, [[maybe_unused]] bool stages_timed) {
  std::vector<std::unique_ptr<Operator>> ops;
  const KernelSet on_cpu{kFloat, nullptr, std::make_shared<CpuKernelSource>(session)};
  add_operators(on_cpu, ops);
  ops.push_back(make_operator<infer_redundancy>(OperatorName::kRedundancy,
                                                {"Redundancy", {kFloat}, 1, {kBool, kFloat}, 1}, on_cpu));
  for (const ElementType e : {kFloat, kUint8}) {
    ops.push_back(make_operator<infer_hold>(OperatorName::kHold, {"Hold", {e}, 1, {e}}, on_cpu));
  }
  add_quantised(on_cpu, ops);
#ifdef REUSE_HAVE_CUDA
  const auto scratch = std::make_shared<SharedScratch>();
  const auto add_cuda = [&](ElementType type, cuda::Element element) {
    add_operators(
        {type, "CUDAExecutionProvider", std::make_shared<CudaKernelSource>(session, element, scratch, stages_timed)},
        ops);
  };
  add_cuda(kFloat, cuda::Element::kFloat);
  add_cuda(kFloat16, cuda::Element::kHalf);
#endif
  return ops;
}

// A configuration entry of the session; "" if the caller set none.
std::string config_entry(const SessionOptions* options, const char* key) {
  int found = 0;
  call(kHasSessionConfigEntry, options, key, &found);
  if (found == 0) return "";
  size_t size = 0;
  call(kGetSessionConfigEntry, options, key, static_cast<char*>(nullptr), &size);
  std::string value(size, '\0');
  call(kGetSessionConfigEntry, options, key, value.data(), &size);
  while (!value.empty() && value.back() == '\0') value.pop_back();
  return value;
}

// Operators and domains must outlive every session made from the options, whose end we are not told: they are kept for
// the life of the process (about 2 KiB per registration).
struct Registration {
  std::vector<std::unique_ptr<Operator>> operators;
  CustomOpDomain* domain = nullptr;
};

}  // namespace

CustomOpDomain* make_domain(const std::string& session, bool stages_timed) {
  instruction_set();  // here, where it can be said, and not in some run, REUSE_ISA is found to make no sense
  static std::mutex mutex;
  static auto* const registrations = new std::vector<Registration>;
  Registration registration;
  registration.operators = make_operators(session, stages_timed);
  call(kCreateCustomOpDomain, kDomain, &registration.domain);
  for (const auto& op : registration.operators) {
    call(kCustomOpDomainAdd, registration.domain, static_cast<const CustomOp*>(op.get()));
  }
  CustomOpDomain* const domain = registration.domain;
  const std::lock_guard<std::mutex> lock(mutex);
  registrations->push_back(std::move(registration));
  return domain;
}

}  // namespace reuse::ort

extern "C" REUSE_EXPORT reuse::ort::Status* RegisterCustomOps(reuse::ort::SessionOptions* options,
                                                              const reuse::ort::ApiBase* base) {
  using namespace reuse::ort;
  const Api* table = base->get_api(kApiVersion);
  if (table == nullptr) {
    // Without a function table not even a status can be made. The runtime has printed that it is too old; without
    // operators it will refuse the model by name.
    return nullptr;
  }
  set_api(table);
  return guarded([&] {
    CustomOpDomain* const domain =
        make_domain(config_entry(options, kSessionTagKey), config_entry(options, kStagesKey) == "1");
    call(kAddCustomOpDomain, options, domain);
  });
}
