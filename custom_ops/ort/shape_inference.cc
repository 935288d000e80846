#include "shape_inference.h"

#include <string>
#include <vector>

#include "api.h"
#include "attributes.h"

namespace reuse::ort {
namespace {

// A dimension: its extent, or -1 with a name ("" if it has none).
struct Dimension {
  int64_t extent = -1;
  std::string name;

  bool known() const { return extent >= 0; }
};

using Shape = std::vector<Dimension>;

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

void set_output(const ShapeInferContext* context, size_t index, ElementType type, const Shape& shape) {
  std::vector<int64_t> extents;
  std::vector<std::string> names;
  for (const Dimension& dimension : shape) {
    extents.push_back(dimension.extent);
    // The runtime takes -1 without a name for an extent.
    const bool nameless = !dimension.known() && dimension.name.empty();
    names.push_back(dimension.known() ? ""
                    : nameless        ? "reuse_unknown_" + std::to_string(index) + "_" + std::to_string(names.size())
                                      : dimension.name);
  }
  std::vector<const char*> name_pointers;
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
  Dimension result{1, ""};
  for (const Dimension& factor : factors) {
    if (!factor.known()) return {};
    result.extent *= factor.extent;
  }
  return result;
}

// The geometry that does not depend on unknown dimensions.
struct Known {
  ConvAttributes attributes;
  Shape x;

  Known(const ShapeInferContext* context, size_t x_index) : x(input_shape(context, x_index)) {
    if (x.size() != 4) x.clear();  // rank 0 stands for an unknown rank, too
    attributes = read_conv_attributes(InferenceAttributes(context));
  }

  bool has_shape() const { return !x.empty(); }

  // Returns the output extent of axis 2 or 3.
  Dimension out(size_t axis) const {
    if (!x[axis].known()) return {};
    const int64_t height = axis == 2 ? x[axis].extent : attributes.kernel_h * attributes.dilation_h;
    const int64_t width = axis == 3 ? x[axis].extent : attributes.kernel_w * attributes.dilation_w;
    const ConvGeometry g = ConvGeometry::make(attributes, 1, attributes.group, height, width, attributes.group);
    return {axis == 2 ? g.out_h : g.out_w, ""};
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
    const int64_t length = attributes.sub_vector_length;
    return {(channels * taps + length - 1) / length * attributes.group, ""};
  }

  Shape y(const Dimension& channels) const { return {x[0], channels, out(2), out(3)}; }
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
  set_output(context, 1, kFloat, {blocks, {}, length});
  set_output(context, 2, kInt32, {blocks});
}

void infer_centroid_gemm(ShapeInferContext* context) {
  const InferenceAttributes attributes(context);
  const Shape centroids = input_shape(context, 0), weights = input_shape(context, 2);
  if (centroids.size() != 3 || weights.size() != 4 || !weights[0].known()) return;
  Dimension width{weights[0].extent / attributes.integer("group").value_or(1), ""};
  if (read_layout(attributes) == Layout::kChannel) width = product({width, weights[2], weights[3]});
  set_output(context, 0, kFloat, {centroids[0], centroids[1], width});
}

void infer_gather(ShapeInferContext* context) {
  const Known known(context, 2);
  const Shape table = input_shape(context, 0);
  if (!known.has_shape()) return;
  Dimension channels;
  if (table.size() == 3 && table[2].known()) {
    const int64_t taps =
        known.attributes.layout == Layout::kPatch ? 1 : known.attributes.kernel_h * known.attributes.kernel_w;
    channels.extent = table[2].extent / taps * known.attributes.group;
  }
  set_output(context, 0, kFloat, known.y(channels));
}

void infer_reuse_conv(ShapeInferContext* context) {
  const Known known(context, 0);
  const Shape weights = input_shape(context, 1);
  if (!known.has_shape() || weights.size() != 4) return;
  set_output(context, 0, kFloat, known.y(weights[0]));
}

}  // namespace reuse::ort
