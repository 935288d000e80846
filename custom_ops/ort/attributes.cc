#include "attributes.h"

#include <limits>
#include <stdexcept>

#include "api.h"
#include "reuse/checked.h"

namespace reuse::ort {
namespace {

// Whether a call of the runtime succeeded; if not, why stays untold.
bool succeeded(Status* status) {
  if (status == nullptr) return true;
  api().get<void(REUSE_ORT_CALL*)(Status*)>(kReleaseStatus)(status);
  return false;
}

template <typename T>
Status* kernel_value(Slot slot, const KernelInfo* info, const char* name, T* value) {
  return api().get<Status*(REUSE_ORT_CALL*)(const KernelInfo*, const char*, T*)>(slot)(info, name, value);
}

// Writes the elements, or, without `values`, only their number.
template <typename T>
Status* kernel_array(Slot slot, const KernelInfo* info, const char* name, T* values, size_t* size) {
  return api().get<Status*(REUSE_ORT_CALL*)(const KernelInfo*, const char*, T*, size_t*)>(slot)(info, name, values,
                                                                                                size);
}

// Whether the attribute can be read as any type at all. The runtime answers the question for an absent attribute and
// for one of another type with the same code; only its wording, which it may change, tells them apart.
bool is_present(const KernelInfo* info, const char* name) {
  int64_t integer = 0;
  float real = 0.0f;
  size_t size = 0;
  return succeeded(kernel_value(kKernelInfoGetAttributeInt64, info, name, &integer)) ||
         succeeded(kernel_value(kKernelInfoGetAttributeFloat, info, name, &real)) ||
         succeeded(kernel_array<char>(kKernelInfoGetAttributeString, info, name, nullptr, &size)) ||
         succeeded(kernel_array<int64_t>(kKernelInfoGetAttributeArrayInt64, info, name, nullptr, &size)) ||
         succeeded(kernel_array<float>(kKernelInfoGetAttributeArrayFloat, info, name, nullptr, &size));
}

// Returns nothing for an attribute that is absent; throws for one that is not, and so is of another type than `type`.
std::nullopt_t refuse_other_type(const KernelInfo* info, const char* name, const char* type) {
  if (is_present(info, name)) throw std::invalid_argument("attribute " + std::string(name) + " must be " + type);
  return std::nullopt;
}

// Reads a fixed-size attribute of a kernel.
template <typename T>
std::optional<T> read_kernel_value(Slot slot, const KernelInfo* info, const char* name, const char* type) {
  T value{};
  if (succeeded(kernel_value(slot, info, name, &value))) return value;
  return refuse_other_type(info, name, type);
}

// Reads an attribute of variable size: once for the size, once for the elements.
template <typename T>
std::optional<std::vector<T>> read_kernel_array(Slot slot, const KernelInfo* info, const char* name, const char* type) {
  size_t size = 0;
  if (!succeeded(kernel_array<T>(slot, info, name, nullptr, &size))) return refuse_other_type(info, name, type);
  std::vector<T> values(size);
  if (size > 0) call(slot, info, name, values.data(), &size);
  values.resize(size);
  return values;
}

// Returns the attribute, or null if it is absent.
const OpAttribute* find_attribute(const ShapeInferContext* context, const char* name) {
  const OpAttribute* attribute = nullptr;
  using Finder = Status*(REUSE_ORT_CALL*)(const ShapeInferContext*, const char*, const OpAttribute**);
  return succeeded(api().get<Finder>(kShapeInferContextGetAttribute)(context, name, &attribute)) ? attribute : nullptr;
}

template <typename T>
std::optional<T> read_inference_value(AttributeType type, const ShapeInferContext* context, const char* name) {
  const OpAttribute* attribute = find_attribute(context, name);
  if (attribute == nullptr) return std::nullopt;
  T value{};
  size_t size = 0;
  call(kReadOpAttr, attribute, type, static_cast<void*>(&value), sizeof(T), &size);
  return value;
}

// The runtime counts the sizes of arrays in bytes here.
template <typename T>
std::optional<std::vector<T>> read_inference_array(AttributeType type, const ShapeInferContext* context,
                                                   const char* name) {
  const OpAttribute* attribute = find_attribute(context, name);
  if (attribute == nullptr) return std::nullopt;
  using Reader = Status*(REUSE_ORT_CALL*)(const OpAttribute*, AttributeType, void*, size_t, size_t*);
  size_t bytes = 0;
  succeeded(api().get<Reader>(kReadOpAttr)(attribute, type, nullptr, 0, &bytes));  // too small a buffer is no success
  std::vector<T> values(bytes / sizeof(T));
  if (bytes > 0) call(kReadOpAttr, attribute, type, static_cast<void*>(values.data()), bytes, &bytes);
  return values;
}

// The runtime ends strings with a 0 in kernels always, in shape inference only before 1.23.
std::string without_terminator(const std::vector<char>& characters) {
  size_t length = characters.size();
  while (length > 0 && characters[length - 1] == '\0') --length;
  return std::string(characters.data(), length);
}

template <typename T>
T required(const std::optional<T>& value, const char* name) {
  if (!value) throw std::invalid_argument("attribute " + std::string(name) + " is missing");
  return *value;
}

std::vector<int64_t> sized(std::optional<std::vector<int64_t>> values, std::vector<int64_t> otherwise,
                           const char* name) {
  if (!values) return otherwise;
  if (values->size() != otherwise.size()) {
    throw std::invalid_argument("attribute " + std::string(name) + " has " + std::to_string(values->size()) +
                                " values, needs " + std::to_string(otherwise.size()));
  }
  return *values;
}

// Reads what windows of convolutions and pools have in common.
template <typename Attributes>
void read_window(const AttributeSource& source, Attributes& a) {
  const auto kernel = sized(required(source.integers("kernel_shape"), "kernel_shape"), {1, 1}, "kernel_shape");
  const auto strides = sized(source.integers("strides"), {1, 1}, "strides");
  const auto pads = sized(source.integers("pads"), {0, 0, 0, 0}, "pads");
  a.kernel_h = kernel[0];
  a.kernel_w = kernel[1];
  a.stride_h = strides[0];
  a.stride_w = strides[1];
  a.pad_top = pads[0];
  a.pad_left = pads[1];
  a.pad_bottom = pads[2];
  a.pad_right = pads[3];
  a.auto_pad = parse_auto_pad(source.text("auto_pad").value_or(""));
}

}  // namespace

std::optional<int64_t> KernelAttributes::integer(const char* name) const {
  return read_kernel_value<int64_t>(kKernelInfoGetAttributeInt64, info_, name, "an integer");
}
std::optional<float> KernelAttributes::real(const char* name) const {
  return read_kernel_value<float>(kKernelInfoGetAttributeFloat, info_, name, "a number");
}
std::optional<std::string> KernelAttributes::text(const char* name) const {
  const auto characters = read_kernel_array<char>(kKernelInfoGetAttributeString, info_, name, "a string");
  if (!characters) return std::nullopt;
  return without_terminator(*characters);
}
std::optional<std::vector<int64_t>> KernelAttributes::integers(const char* name) const {
  return read_kernel_array<int64_t>(kKernelInfoGetAttributeArrayInt64, info_, name, "integers");
}
std::optional<std::vector<float>> KernelAttributes::reals(const char* name) const {
  return read_kernel_array<float>(kKernelInfoGetAttributeArrayFloat, info_, name, "numbers");
}

std::optional<int64_t> InferenceAttributes::integer(const char* name) const {
  return read_inference_value<int64_t>(kAttributeInt, context_, name);
}
std::optional<float> InferenceAttributes::real(const char* name) const {
  return read_inference_value<float>(kAttributeFloat, context_, name);
}
std::optional<std::string> InferenceAttributes::text(const char* name) const {
  const auto characters = read_inference_array<char>(kAttributeString, context_, name);
  if (!characters) return std::nullopt;
  return without_terminator(*characters);
}
std::optional<std::vector<int64_t>> InferenceAttributes::integers(const char* name) const {
  return read_inference_array<int64_t>(kAttributeInts, context_, name);
}
std::optional<std::vector<float>> InferenceAttributes::reals(const char* name) const {
  return read_inference_array<float>(kAttributeFloats, context_, name);
}

Layout read_layout(const AttributeSource& source) { return parse_layout(required(source.text("layout"), "layout")); }

int64_t read_group(const AttributeSource& source) {
  const int64_t group = source.integer("group").value_or(1);
  checked::require_extent(group, 1, "group");
  return group;
}

ConvAttributes read_conv_attributes(const AttributeSource& source) {
  ConvAttributes a;
  read_window(source, a);
  const auto dilations = sized(source.integers("dilations"), {1, 1}, "dilations");
  a.dilation_h = dilations[0];
  a.dilation_w = dilations[1];
  a.group = read_group(source);
  a.layout = read_layout(source);
  a.sub_vector_length = required(source.integer("sub_vector_length"), "sub_vector_length");
  a.check();
  return a;
}

void read_data_orders(const AttributeSource& source, ConvAttributes& attributes) {
  const std::vector<int64_t> same{0, 1, 2, 3};
  attributes.input_order = order_of_input_perm(source.integers("input_perm").value_or(same));
  attributes.output_order = order_of_output_perm(source.integers("output_perm").value_or(same));
  attributes.check();
}

PoolAttributes read_pool_attributes(const AttributeSource& source, PoolMode mode) {
  PoolAttributes a;
  read_window(source, a);
  a.mode = mode;
  a.ceil_mode = source.integer("ceil_mode").value_or(0) != 0;
  a.count_include_pad = source.integer("count_include_pad").value_or(0) != 0;
  a.check();
  return a;
}

RedundancyAttributes read_redundancy_attributes(const AttributeSource& source) {
  RedundancyAttributes a;
  a.windows = required(source.integers("windows"), "windows");
  a.strides = source.integers("strides").value_or(std::vector<int64_t>(a.windows.size(), 1));
  a.gains = required(source.reals("gains"), "gains");
  a.threshold = source.real("threshold").value_or(a.threshold);
  a.samples = source.integer("samples").value_or(a.samples);
  a.channels = source.integer("channels").value_or(a.channels);
  a.check();
  return a;
}

HoldAttributes read_hold_attributes(const AttributeSource& source) {
  HoldAttributes a;
  a.tolerances = required(source.reals("tolerances"), "tolerances");
  a.opening = source.integer("opening").value_or(a.opening);
  a.dilation = source.integer("dilation").value_or(a.dilation);
  a.patience = source.integer("patience").value_or(a.patience);
  a.axis = source.integer("axis").value_or(a.axis);
  a.memory = source.integer("memory").value_or(a.memory);
  a.check();
  return a;
}

HashAttributes read_hash_attributes(const AttributeSource& source) {
  HashAttributes a;
  a.family = &find_hash_family(required(source.text("family"), "family"));
  a.num_hashes = source.integer("num_hashes").value_or(1);
  // What the family ignores has no meaning but its sign's: a negative one is a mistake.
  const int64_t largest = a.family->max_hashes(), smallest = largest > 0 ? 1 : 0;
  checked::require(a.num_hashes >= smallest && (largest == 0 || a.num_hashes <= largest),
                   std::string("family ") + a.family->name() + ": num_hashes is " + std::to_string(a.num_hashes) +
                       ", must be " +
                       (largest == 0 ? "at least 0 (and is ignored)" : "1 to " + std::to_string(largest)));
  return a;
}

bool read_incremental(const AttributeSource& source) {
  const int64_t incremental = source.integer("incremental").value_or(0);
  checked::require(incremental == 0 || incremental == 1,
                   "incremental is " + std::to_string(incremental) + ", must be 0 or 1");
  return incremental == 1;
}

int64_t read_memory(const AttributeSource& source) {
  ClusterAttributes a;
  a.memory = source.integer("memory").value_or(a.memory);
  a.check();
  return a.memory;
}

ClusterAttributes read_cluster_attributes(const AttributeSource& source) {
  ClusterAttributes a;
  a.scope = parse_scope(source.text("scope").value_or("batch"));
  a.metric = parse_metric(source.text("metric").value_or("euclidean"));
  a.capacity = source.real("capacity").value_or(1.0f);
  const int64_t verify = source.integer("verify").value_or(0);
  checked::require(verify == 0 || verify == 1, "verify is " + std::to_string(verify) + ", must be 0 or 1");
  a.verify = verify == 1;
  a.memory = read_memory(source);
  a.check();
  return a;
}

GatherAttributes read_gather_attributes(const AttributeSource& source) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  return GatherAttributes::of(source.real("alpha").value_or(1.0f), source.real("min").value_or(-kInfinity),
                              source.real("max").value_or(kInfinity));
}

ReuseAttributes read_reuse_attributes(const AttributeSource& source, const char* default_table) {
  ReuseAttributes a{read_conv_attributes(source), read_hash_attributes(source), read_cluster_attributes(source),
                    read_gather_attributes(source), parse_table_type(source.text("table").value_or(default_table))};
  const int64_t keep_tables = source.integer("keep_tables").value_or(1);
  checked::require(keep_tables == 0 || keep_tables == 1,
                   "keep_tables is " + std::to_string(keep_tables) + ", must be 0 or 1");
  a.keep_tables = keep_tables == 1;
  checked::require(a.cluster.scope != Scope::kSession || a.table == TableType::kFloat,
                   "scope session adds to its tables from run to run: table must be float");
  a.incremental = read_incremental(source);
  a.check_incremental();
  read_data_orders(source, a.conv);
  return a;
}

}  // namespace reuse::ort
