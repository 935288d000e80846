#include "kernel.h"

#include <stdexcept>
#include <utility>

#include "reuse/checked.h"

namespace reuse::ort {

std::string node_name(const KernelInfo* info) {
  size_t size = 0;
  call(kKernelInfoGetNodeName, info, static_cast<char*>(nullptr), &size);
  std::string name(size, '\0');
  if (size > 0) call(kKernelInfoGetNodeName, info, name.data(), &size);
  while (!name.empty() && name.back() == '\0') name.pop_back();
  return name;
}

Kernel::Kernel(const KernelInfo* info, std::string op, std::string session)
    : op_(std::move(op)), session_(std::move(session)), node_(node_name(info)), allocator_(info) {
  StatisticsRegistry::instance().announce(session_, node_, op_);
}

void Kernel::compute(KernelContext* context) const {
  ScratchAllocator scratch(allocator_);
  SessionParallel parallel(context);
  Workspace workspace(scratch, parallel);
  naming(op_, node_, [&] { run(context, workspace); });
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

HashInputs::HashInputs(const std::array<TensorView, 3>& tensors) : tensors_(tensors) {
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

void HashInputs::check(const HashFamily& family, const HashShape& shape) const {
  family.check(sizes, shape);
  // The sizes are right, so it is the rank and the first extents that can be wrong.
  const HashParameterSizes needed = family.required(shape), possible = family.optional(shape);
  const auto check_one = [&](size_t index, int64_t HashParameterSizes::* member, const char* name) {
    if (sizes.*member < 0 || (needed.*member < 0 && possible.*member < 0)) return;
    std::vector<int64_t> expected{shape.num_blocks, sizes.*member / shape.num_blocks};
    if (index == 0) expected = {shape.num_blocks, shape.length, expected[1] / shape.length};
    require_shape(tensors_[index], expected, name);
  };
  check_one(0, &HashParameterSizes::projections, "projections");
  check_one(1, &HashParameterSizes::thresholds, "thresholds");
  check_one(2, &HashParameterSizes::coordinates, "coordinates");
}

HashInputs read_hash_inputs(KernelContext* context, size_t first) {
  return HashInputs({input(context, first), input(context, first + 1), input(context, first + 2)});
}

HashParameters read_hash_parameters(KernelContext* context, size_t first, const HashAttributes& attributes,
                                    const Blocking& blocking) {
  const HashInputs inputs = read_hash_inputs(context, first);
  inputs.check(*attributes.family, {blocking.num_blocks(), blocking.sub_vector_length(), attributes.num_hashes});
  return inputs.parameters;
}

const void* bias_data(const TensorView& bias, int64_t out_channels, const char* name) {
  if (!has_elements(bias)) return nullptr;
  require_shape(bias, {out_channels}, name);
  return bias.data;
}

void require_shape(const TensorView& tensor, const std::vector<int64_t>& shape, const char* name) {
  if (tensor.shape == shape) return;
  throw std::invalid_argument(std::string(name) + " has shape " + to_string(tensor.shape) + ", needs " +
                              to_string(shape));
}

int64_t in_channels_of(const TensorView& w, const ConvAttributes& conv) {
  return checked::product({w.shape[1], conv.group}, "the number of input channels");
}

int64_t out_channels_of(const TensorView& table, const ConvAttributes& conv) {
  const int64_t taps = conv.layout == Layout::kPatch ? 1 : conv.kernel_h * conv.kernel_w;
  return checked::product({table.shape[2] / taps, conv.group}, "the number of output channels");
}

void check_weights(const TensorView& w, const ConvAttributes& conv, std::optional<int64_t> in_channels,
                   const char* name) {
  require_rank(w, 4, name);
  const bool fits = w.shape[2] == conv.kernel_h && w.shape[3] == conv.kernel_w &&
                    (!in_channels || in_channels_of(w, conv) == *in_channels);
  if (fits) return;
  throw std::invalid_argument(std::string(name) + " has shape " + to_string(w.shape) +
                              ", which does not fit kernel_shape and the input's " +
                              (in_channels ? std::to_string(*in_channels) : "unknown") + " channels");
}

void require_given(const TensorView& given, const ClusterAttributes& attributes, const Blocking& blocking) {
  if (attributes.scope != Scope::kStatic) {
    return checked::require(!has_elements(given), "given centroids are for scope static only");
  }
  require_rank(given, 3, "given");
  require_shape(given, {blocking.num_blocks(), given.shape[1], blocking.sub_vector_length()}, "given");
}

Blocking blocking_of_weights(const ConvAttributes& conv, const TensorView& w) {
  return Blocking::of_any_size(conv, in_channels_of(w, conv), w.shape[0]);
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
