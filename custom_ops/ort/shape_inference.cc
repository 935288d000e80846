#include "shape_inference.h"

#include <atomic>
#include <string>
#include <vector>

#include "api.h"
#include "attributes.h"
#include "reuse/checked.h"

namespace reuse::ort {
namespace {

// A dimension: its extent, or -1 with a name ("" if it has none). The runtime takes dimensions of one name for equal
// and shares memory between tensors on that ground, so names are expressions of the input's names, or unique.
struct Dimension {
  int64_t extent = -1;
  std::string name;

  bool known() const { return extent >= 0; }
  bool nameless() const { return !known() && name.empty(); }
  std::string text() const { return known() ? std::to_string(extent) : name; }
};

// A dimension of which nothing is known, not even that it equals another.
Dimension unknown() {
  static std::atomic<uint64_t> count{0};
  return {-1, "reuse_unknown_" + std::to_string(count++)};
}

using Shape = std::vector<Dimension>;

// Inputs of QLinearReuseConv: w, and y_zero_point, whose type is that of y; and of ReuseConvInteger: w.
constexpr size_t kQuantisedWeights = 3, kOutputZeroPoint = 7, kIntegerWeights = 1;

Shape input_shape(const ShapeInferContext* context, size_t index) {
  size_t count = 0;
  call(kShapeInferContextGetInputCount, context, &count);
  if (index >= count) return {};
  TypeAndShape* info = nullptr;  // belongs to the context
  call(kShapeInferContextGetInputTypeShape, context, index, &info);
  size_t rank = 0;
  call(kGetDimensionsCount, static_cast<const TypeAndShape*>(info), &rank);
  std::vector<int64_t> extents(rank);
  std::vector<const char*> names(rank, nullptr);
  call(kGetDimensions, static_cast<const TypeAndShape*>(info), extents.data(), rank);
  call(kGetSymbolicDimensions, static_cast<const TypeAndShape*>(info), names.data(), rank);
  Shape shape(rank);
  for (size_t i = 0; i < rank; ++i) shape[i] = {extents[i], names[i] == nullptr ? "" : names[i]};
  return shape;
}

// The element type of an input: of the first one, images, centroids and tables are alike.
ElementType element_type(const ShapeInferContext* context, size_t index = 0) {
  TypeAndShape* info = nullptr;  // belongs to the context
  call(kShapeInferContextGetInputTypeShape, context, index, &info);
  ElementType type = kUndefined;
  call(kGetTensorElementType, static_cast<const TypeAndShape*>(info), &type);
  return type;
}

void set_output(const ShapeInferContext* context, size_t index, ElementType type, const Shape& shape) {
  std::vector<int64_t> extents;
  std::vector<std::string> names;
  extents.reserve(shape.size());
  names.reserve(shape.size());
  for (const Dimension& dimension : shape) {
    extents.push_back(dimension.extent);
    // The runtime takes -1 without a name for an extent.
    names.push_back(dimension.known() ? "" : dimension.nameless() ? unknown().name : dimension.name);
  }
  std::vector<const char*> name_pointers;
  name_pointers.reserve(names.size());
  for (const std::string& name : names) name_pointers.push_back(name.c_str());
  struct Info {
    TypeAndShape* handle = nullptr;
    Info() { call(kCreateTensorTypeAndShapeInfo, &handle); }
    ~Info() { api().get<void(REUSE_ORT_CALL*)(TypeAndShape*)>(kReleaseTensorTypeAndShapeInfo)(handle); }
  } info;
  call(kSetTensorElementType, info.handle, type);
  call(kSetDimensions, info.handle, static_cast<const int64_t*>(extents.data()), extents.size());
  // Versions before 1.22 need the names even when all are empty.
  call(kSetSymbolicDimensions, info.handle, name_pointers.data(), name_pointers.size());
  call(kShapeInferContextSetOutputTypeShape, context, index, static_cast<const TypeAndShape*>(info.handle));
}

Dimension product(const std::vector<Dimension>& factors) {
  std::string name;
  std::vector<int64_t> extents;
  for (const Dimension& factor : factors) {
    if (factor.nameless()) return unknown();
    name += (name.empty() ? "" : "*") + factor.text();
    if (factor.known()) extents.push_back(factor.extent);
  }
  if (extents.size() < factors.size()) return {-1, name};
  return {checked::product(extents, "a dimension"), ""};
}

// The geometry that does not depend on unknown dimensions.
struct Known {
  ConvAttributes attributes;
  Shape x;

  Known(const ShapeInferContext* context, size_t x_index) : x(input_shape(context, x_index)) {
    if (x.size() != 4) x.clear();  // rank 0 stands for an unknown rank, too
    attributes = read_conv_attributes(InferenceAttributes(context));
  }

  // Takes x and y for pixel-major.
  void take_pixel_major() {
    attributes.input_order = attributes.output_order = DataOrder::kNhwc;
    if (has_shape()) x = {x[0], x[3], x[1], x[2]};
  }

  // Takes X for a tensor in the order of ReuseConv's attributes from here on; `x` is NCHW whatever the order.
  void read_orders(const ShapeInferContext* context) {
    read_data_orders(InferenceAttributes(context), attributes);
    if (has_shape() && attributes.input_order == DataOrder::kNhwc) x = {x[0], x[3], x[1], x[2]};
  }

  bool has_shape() const { return !x.empty(); }

  // Returns the output extent of axis 2 or 3.
  Dimension out(size_t axis) const {
    const ConvAttributes& a = attributes;
    const bool vertical = axis == 2;
    const int64_t span = vertical ? (a.kernel_h - 1) * a.dilation_h : (a.kernel_w - 1) * a.dilation_w;
    const int64_t stride = vertical ? a.stride_h : a.stride_w;
    if (x[axis].known()) {
      ConvAttributes one_axis = a;  // the kernel is no larger than the input on the other
      (vertical ? one_axis.kernel_w : one_axis.kernel_h) = 1;
      (vertical ? one_axis.pad_left : one_axis.pad_top) = (vertical ? one_axis.pad_right : one_axis.pad_bottom) = 0;
      const int64_t height = vertical ? x[axis].extent : 1, width = vertical ? 1 : x[axis].extent;
      const ConvGeometry g = ConvGeometry::make(one_axis, 1, a.group, height, width, a.group);
      return {vertical ? g.out_h : g.out_w, ""};
    }
    if (x[axis].nameless()) return unknown();
    const bool same = a.auto_pad == AutoPad::kSameUpper || a.auto_pad == AutoPad::kSameLower;
    const bool explicit_pads = a.auto_pad == AutoPad::kNotSet;
    const int64_t pads = !explicit_pads ? 0 : vertical ? a.pad_top + a.pad_bottom : a.pad_left + a.pad_right;
    // The output is floor((input + shift) / stride) + 1.
    const int64_t shift = same ? -1 : pads - span - 1;
    if (stride == 1 && shift == -1) return x[axis];
    return {-1, "floor((" + x[axis].name + (shift < 0 ? "" : "+") + std::to_string(shift) + ")/" +
                    std::to_string(stride) + ")+1"};
  }

  Dimension vectors() const {
    if (!has_shape()) return {};
    if (attributes.layout == Layout::kChannel) return product({x[0], x[2], x[3]});
    return product({x[0], out(2), out(3)});
  }

  Dimension blocks() const {
    if (!has_shape() || !x[1].known() || x[1].extent % attributes.group != 0) return {};
    const int64_t channels = x[1].extent / attributes.group;
    const int64_t taps = attributes.layout == Layout::kPatch ? attributes.kernel_h * attributes.kernel_w : 1;
    const int64_t width = checked::product({channels, taps}, "a group"), length = attributes.sub_vector_length;
    return {checked::product({(width + length - 1) / length, attributes.group}, "the number of blocks"), ""};
  }

  Shape y(const Dimension& channels) const {
    if (attributes.output_order == DataOrder::kNhwc) return {x[0], out(2), out(3), channels};
    return {x[0], channels, out(2), out(3)};
  }
};

}  // namespace

void infer_hash(ShapeInferContext* context) {
  const Known known(context, 0);
  set_output(context, 0, kInt64, {known.blocks(), known.vectors()});
}

void infer_cluster(ShapeInferContext* context) {
  const Known known(context, 0);
  const Dimension blocks = known.blocks(), length{known.attributes.sub_vector_length, ""};
  set_output(context, 0, kInt32, {blocks, known.vectors()});
  set_output(context, 1, element_type(context), {blocks, unknown(), length});
  set_output(context, 2, kInt32, {blocks});
}

void infer_centroid_gemm(ShapeInferContext* context) {
  const InferenceAttributes attributes(context);
  const Shape centroids = input_shape(context, 0), weights = input_shape(context, 2);
  if (centroids.size() != 3 || weights.size() != 4 || !weights[0].known()) return;
  Dimension width{weights[0].extent / read_group(attributes), ""};
  if (read_layout(attributes) == Layout::kChannel) width = product({width, weights[2], weights[3]});
  set_output(context, 0, element_type(context), {centroids[0], centroids[1], width});
}

void infer_gather(ShapeInferContext* context) {
  const Known known(context, 2);
  const Shape table = input_shape(context, 0);
  if (!known.has_shape()) return;
  Dimension channels;
  if (table.size() == 3 && table[2].known()) {
    const int64_t taps =
        known.attributes.layout == Layout::kPatch ? 1 : known.attributes.kernel_h * known.attributes.kernel_w;
    channels.extent = checked::product({table[2].extent / taps, known.attributes.group}, "the output");
  }
  set_output(context, 0, element_type(context), known.y(channels));
}

void infer_reuse_conv(ShapeInferContext* context) {
  Known known(context, 0);
  known.read_orders(context);
  const Shape weights = input_shape(context, 1);
  if (!known.has_shape() || weights.size() != 4) return;
  set_output(context, 0, element_type(context), known.y(weights[0]));
}

static void infer_bytes(ShapeInferContext* context, size_t weights_at, ElementType type) {
  Known known(context, 0);
  known.take_pixel_major();
  const Shape weights = input_shape(context, weights_at);
  if (!known.has_shape() || weights.size() != 4) return;
  set_output(context, 0, type, known.y(weights[0]));
}

void infer_qlinear_reuse_conv(ShapeInferContext* context) {
  infer_bytes(context, kQuantisedWeights, element_type(context, kOutputZeroPoint));
}

void infer_reuse_conv_integer(ShapeInferContext* context) { infer_bytes(context, kIntegerWeights, kFloat); }

void infer_pool(ShapeInferContext* context) {
  // Sizes do not depend on the mode.
  const PoolAttributes attributes = read_pool_attributes(InferenceAttributes(context), PoolMode::kMax);
  Shape shape = input_shape(context, 0);
  if (shape.size() != 4) return;
  for (const int axis : {0, 1}) {
    Dimension& extent = axis == 0 ? shape[1] : shape[2];
    extent = extent.known() ? Dimension{pool_axis(attributes, axis, extent.extent).out, ""} : unknown();
  }
  set_output(context, 0, element_type(context), shape);
}

void infer_hold(ShapeInferContext* context) {
  const Shape shape = input_shape(context, 0);
  if (shape.size() == 4) set_output(context, 0, element_type(context), shape);
}

void infer_redundancy(ShapeInferContext* context) {
  // Nothing is said of the shares: the runtime does not tell whether the node has them, and 1.18 ends the process if
  // something is said of an output that there is not.
  set_output(context, 0, kBool, {});
}

}  // namespace reuse::ort
