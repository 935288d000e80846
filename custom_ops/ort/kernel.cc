#include "kernel.h"

#include <stdexcept>
#include <utility>

namespace reuse::ort {
namespace {

std::string node_name(const KernelInfo* info) {
  size_t size = 0;
  call(kKernelInfoGetNodeName, info, static_cast<char*>(nullptr), &size);
  std::string name(size, '\0');
  if (size > 0) call(kKernelInfoGetNodeName, info, name.data(), &size);
  while (!name.empty() && name.back() == '\0') name.pop_back();
  return name;
}

}  // namespace

Kernel::Kernel(const KernelInfo* info, std::string op, std::string session)
    : op_(std::move(op)), session_(std::move(session)), node_(node_name(info)), allocator_(info) {
  StatisticsRegistry::instance().announce(session_, node_, op_);
}

void Kernel::compute(KernelContext* context) const {
  ScratchAllocator scratch(allocator_);
  SessionParallel parallel(context);
  Workspace workspace(scratch, parallel);
  try {
    run(context, workspace);
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(op_ + " '" + node_ + "': " + error.what());
  }
  workspace.statistics.scratch_bytes += workspace.peak_bytes();
  StatisticsRegistry::instance().add(session_, node_, op_, workspace.statistics);
}

std::optional<TensorView> fixed_input(const KernelInfo* info, size_t index) {
  size_t count = 0;
  call(kKernelInfoGetInputCount, info, &count);
  if (index >= count) return TensorView{};
  int is_constant = 0;
  const Value* value = nullptr;
  call(kKernelInfoGetConstantInputTensor, info, index, &is_constant, &value);
  if (is_constant == 0) return std::nullopt;
  return view_of(value);
}

TensorView constant_input(const KernelInfo* info, size_t index) {
  return fixed_input(info, index).value_or(TensorView{});
}

bool has_elements(const TensorView& tensor) { return tensor.present() && tensor.size() > 0; }

void require_rank(const TensorView& tensor, size_t rank, const char* name) {
  if (tensor.shape.size() == rank) return;
  throw std::invalid_argument(std::string(name) + " has shape " + to_string(tensor.shape) + ", needs rank " +
                              std::to_string(rank));
}

ImageShape image_shape(const TensorView& x, DataOrder order) {
  const std::vector<int64_t>& s = x.shape;
  return order == DataOrder::kNchw ? ImageShape{s[0], s[1], s[2], s[3]} : ImageShape{s[0], s[3], s[1], s[2]};
}

Blocking make_blocking(const ConvAttributes& attributes, const TensorView& x, int64_t out_channels) {
  require_rank(x, 4, "X");
  const ImageShape shape = image_shape(x, attributes.input_order);
  return Blocking::make(
      ConvGeometry::make(attributes, shape.batch, shape.channels, shape.height, shape.width, out_channels));
}

HashInputs::HashInputs(const std::array<TensorView, 3>& tensors) {
  const auto take = [&](const TensorView& tensor, auto& values, int64_t& size) {
    if (!has_elements(tensor)) return;
    values = static_cast<std::decay_t<decltype(values)>>(tensor.data);
    size = tensor.size();
    num_blocks = tensor.shape.empty() ? 0 : tensor.shape[0];
  };
  take(tensors[0], parameters.projections, sizes.projections);
  take(tensors[1], parameters.thresholds, sizes.thresholds);
  take(tensors[2], parameters.coordinates, sizes.coordinates);
}

HashInputs read_hash_inputs(KernelContext* context, size_t first) {
  return HashInputs({input(context, first), input(context, first + 1), input(context, first + 2)});
}

HashParameters read_hash_parameters(KernelContext* context, size_t first, const HashAttributes& attributes,
                                    const Blocking& blocking) {
  const HashInputs inputs = read_hash_inputs(context, first);
  attributes.family->check(inputs.sizes, {blocking.num_blocks(), blocking.sub_vector_length(), attributes.num_hashes});
  return inputs.parameters;
}

const void* read_bias(KernelContext* context, size_t index, int64_t out_channels) {
  const TensorView bias = input(context, index);
  if (!has_elements(bias)) return nullptr;
  if (bias.size() != out_channels) {
    throw std::invalid_argument("bias has " + std::to_string(bias.size()) + " elements, needs " +
                                std::to_string(out_channels));
  }
  return bias.data;
}

void require_shape(const TensorView& tensor, const std::vector<int64_t>& shape, const char* name) {
  if (tensor.shape == shape) return;
  throw std::invalid_argument(std::string(name) + " has shape " + to_string(tensor.shape) + ", needs " +
                              to_string(shape));
}

void check_weights(const TensorView& w, const ConvAttributes& conv, std::optional<int64_t> in_channels) {
  require_rank(w, 4, "W");
  const bool fits = w.shape[2] == conv.kernel_h && w.shape[3] == conv.kernel_w &&
                    (!in_channels || w.shape[1] * conv.group == *in_channels);
  if (fits) return;
  throw std::invalid_argument("W has shape " + to_string(w.shape) +
                              ", which does not fit kernel_shape and the input's " +
                              (in_channels ? std::to_string(*in_channels) : "unknown") + " channels");
}

Blocking blocking_of_weights(const ConvAttributes& conv, const TensorView& w) {
  return Blocking::of_any_size(conv, w.shape[1] * conv.group, w.shape[0]);
}

ConvAttributes conv_of_tables(Layout layout, int64_t group, const TensorView& centroids, const TensorView& w) {
  require_rank(centroids, 3, "centroids");
  require_rank(w, 4, "W");
  ConvAttributes conv;
  conv.kernel_h = w.shape[2];
  conv.kernel_w = w.shape[3];
  conv.group = group;
  conv.layout = layout;
  conv.sub_vector_length = centroids.shape[2];
  conv.check();
  return conv;
}

std::vector<int64_t> output_shape(const ConvGeometry& g) {
  if (g.attributes.output_order == DataOrder::kNhwc) return {g.batch, g.out_h, g.out_w, g.out_channels};
  return {g.batch, g.out_channels, g.out_h, g.out_w};
}

}  // namespace reuse::ort
