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

int64_t elements_or_absent(const TensorView& tensor) {
  // An absent parameter before a present one is a tensor without elements.
  return tensor.present() && tensor.size() > 0 ? tensor.size() : -1;
}

}  // namespace

Kernel::Kernel(const KernelInfo* info, std::string op, std::string session)
    : op_(std::move(op)), session_(std::move(session)), node_(node_name(info)), allocator_(info) {
  StatisticsRegistry::instance().announce(session_, node_, op_);
}

void Kernel::compute(KernelContext* context) const {
  ScratchAllocator scratch(allocator_);
  SessionParallel parallel(context);
  RunStatistics statistics;
  try {
    Context kernel_context{scratch, parallel, statistics};
    run(context, kernel_context);
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(op_ + " '" + node_ + "': " + error.what());
  }
  statistics.scratch_bytes += scratch.peak_bytes();
  StatisticsRegistry::instance().add(session_, node_, op_, statistics);
}

TensorView constant_input(const KernelInfo* info, size_t index) {
  size_t count = 0;
  call(kKernelInfoGetInputCount, info, &count);
  if (index >= count) return {};
  int is_constant = 0;
  const Value* value = nullptr;
  call(kKernelInfoGetConstantInputTensor, info, index, &is_constant, &value);
  return is_constant != 0 ? view_of(value) : TensorView{};
}

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

void check_coordinates(const int32_t* coordinates, int64_t count, int64_t length) {
  for (int64_t i = 0; i < count; ++i) {
    if (coordinates[i] < 0 || coordinates[i] >= length) {
      throw std::invalid_argument("coordinates hold " + std::to_string(coordinates[i]) + ", must be 0 to " +
                                  std::to_string(length - 1));
    }
  }
}

HashParameters read_hash_parameters(KernelContext* context, size_t first, const HashAttributes& attributes,
                                    const Blocking& blocking, bool on_host) {
  const TensorView projections = input(context, first), thresholds = input(context, first + 1);
  const TensorView coordinates = input(context, first + 2), widths = input(context, first + 3);
  HashParameterSizes sizes;
  sizes.projections = elements_or_absent(projections);
  sizes.thresholds = elements_or_absent(thresholds);
  sizes.coordinates = elements_or_absent(coordinates);
  sizes.widths = elements_or_absent(widths);
  attributes.family->check(sizes, blocking.num_blocks(), blocking.sub_vector_length(), attributes.num_hashes);
  HashParameters parameters;
  if (sizes.projections > 0) parameters.projections = projections.as<float>();
  if (sizes.thresholds > 0) parameters.thresholds = thresholds.as<float>();
  if (sizes.widths > 0) parameters.widths = widths.as<float>();
  if (sizes.coordinates > 0) {
    parameters.coordinates = coordinates.as<int32_t>();
    if (on_host) check_coordinates(parameters.coordinates, sizes.coordinates, blocking.sub_vector_length());
  }
  return parameters;
}

const void* read_bias(KernelContext* context, size_t index, int64_t out_channels) {
  const TensorView bias = input(context, index);
  if (elements_or_absent(bias) < 0) return nullptr;
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
  ConvAttributes any_size = conv;
  any_size.auto_pad = AutoPad::kNotSet;
  const int64_t height = conv.kernel_h * conv.dilation_h, width = conv.kernel_w * conv.dilation_w;
  return Blocking::make(ConvGeometry::make(any_size, 1, w.shape[1] * conv.group, height, width, w.shape[0]));
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
