// The entry point that ONNX Runtime looks for, and the table of operators.
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kernels.h"
#include "reuse/capi.h"
#include "shape_inference.h"

namespace reuse::ort {
namespace {

constexpr const char* kDomain = "ai.reuse";
constexpr const char* kSessionTagKey = "ai.reuse.session";

struct Signature {
  const char* name;
  std::vector<ElementType> inputs;
  size_t required_inputs;
  std::vector<ElementType> outputs;
};

// An operator as the runtime sees it: function pointers first, so that a CustomOp* is an Operator*.
struct Operator : CustomOp {
  Signature signature;
  std::string session;
};

const Operator& self(const CustomOp* op) { return *static_cast<const Operator*>(op); }

template <typename KernelType, void (*infer)(ShapeInferContext*)>
std::unique_ptr<Operator> make_operator(Signature signature, const std::string& session) {
  auto op = std::make_unique<Operator>();
  static_cast<CustomOp&>(*op) = CustomOp{};
  op->signature = std::move(signature);
  op->session = session;
  op->version = kApiVersion;
  op->get_name = [](const CustomOp* o) { return self(o).signature.name; };
  op->get_execution_provider = [](const CustomOp*) -> const char* { return nullptr; };
  op->get_input_type = [](const CustomOp* o, size_t i) { return self(o).signature.inputs[i]; };
  op->get_input_count = [](const CustomOp* o) { return self(o).signature.inputs.size(); };
  op->get_output_type = [](const CustomOp* o, size_t i) { return self(o).signature.outputs[i]; };
  op->get_output_count = [](const CustomOp* o) { return self(o).signature.outputs.size(); };
  op->get_input_characteristic = [](const CustomOp* o, size_t i) {
    return i < self(o).signature.required_inputs ? kRequired : kOptional;
  };
  op->get_output_characteristic = [](const CustomOp*, size_t) { return kRequired; };
  op->get_input_memory_type = [](const CustomOp*, size_t) { return kMemoryDefault; };
  op->create_kernel_v2 = [](const CustomOp* o, const Api*, const KernelInfo* info, void** kernel) -> Status* {
    return guarded([&] { *kernel = static_cast<Kernel*>(new KernelType(info, self(o).session)); });
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

std::vector<std::unique_ptr<Operator>> make_operators(const std::string& session) {
  // projections, thresholds, coordinates, widths
  const auto with_parameters = [](std::vector<ElementType> inputs) {
    inputs.insert(inputs.end(), {kFloat, kFloat, kInt32, kFloat});
    return inputs;
  };
  std::vector<std::unique_ptr<Operator>> ops;
  ops.push_back(make_operator<HashKernel, infer_hash>({"Hash", with_parameters({kFloat}), 1, {kInt64}}, session));
  ops.push_back(
      make_operator<ClusterKernel, infer_cluster>({"Cluster", {kFloat, kInt64}, 2, {kInt32, kFloat, kInt32}}, session));
  ops.push_back(make_operator<CentroidGemmKernel, infer_centroid_gemm>(
      {"CentroidGemm", {kFloat, kInt32, kFloat}, 3, {kFloat}}, session));
  ops.push_back(
      make_operator<GatherKernel, infer_gather>({"Gather", {kFloat, kInt32, kFloat, kFloat}, 3, {kFloat}}, session));
  ops.push_back(make_operator<ReuseConvKernel, infer_reuse_conv>(
      {"ReuseConv", with_parameters({kFloat, kFloat, kFloat}), 2, {kFloat}}, session));
  ops.push_back(make_operator<PoolKernel, infer_pool>({"Pool", {kFloat}, 1, {kFloat}}, session));
  return ops;
}

// The tag that tells this session's statistics from others'; "" if the caller set none.
std::string session_tag(const SessionOptions* options) {
  int found = 0;
  call(kHasSessionConfigEntry, options, kSessionTagKey, &found);
  if (found == 0) return "";
  size_t size = 0;
  call(kGetSessionConfigEntry, options, kSessionTagKey, static_cast<char*>(nullptr), &size);
  std::string tag(size, '\0');
  call(kGetSessionConfigEntry, options, kSessionTagKey, tag.data(), &size);
  while (!tag.empty() && tag.back() == '\0') tag.pop_back();
  return tag;
}

// Operators and domains must outlive every session made from the options, whose end we are not told: they are kept for
// the life of the process (about 2 KiB per registration).
struct Registration {
  std::vector<std::unique_ptr<Operator>> operators;
  CustomOpDomain* domain = nullptr;
};

void register_operators(SessionOptions* options) {
  static std::mutex mutex;
  static auto* const registrations = new std::vector<Registration>;
  Registration registration;
  registration.operators = make_operators(session_tag(options));
  call(kCreateCustomOpDomain, kDomain, &registration.domain);
  for (const auto& op : registration.operators) {
    call(kCustomOpDomainAdd, registration.domain, static_cast<const CustomOp*>(op.get()));
  }
  call(kAddCustomOpDomain, options, registration.domain);
  const std::lock_guard<std::mutex> lock(mutex);
  registrations->push_back(std::move(registration));
}

}  // namespace
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
  return guarded([&] { register_operators(options); });
}
