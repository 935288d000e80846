// What every operator's kernel has: its name, its statistics, and the memory and threads of a run.
#pragma once

#include <array>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "api.h"
#include "reuse/operators.h"
#include "reuse/statistics_registry.h"
#include "reuse/text.h"

namespace reuse::ort {

enum class OperatorName {
  kHash,
  kCluster,
  kCentroidGemm,
  kGather,
  kReuseConv,
  kMaxPool,
  kAveragePool,
  kRedundancy,
  kHold,
  kQLinearReuseConv,
  kReuseConvInteger
};

// Calls `body`; what it finds wrong with the node's attributes or tensors is told with the operator and the node.
template <typename Body>
auto naming(const std::string& op, const std::string& node, const Body& body) {
  try {
    return body();
  } catch (const std::length_error&) {
    throw std::bad_alloc();  // a container was asked for more than it can hold
  } catch (const std::logic_error& error) {
    throw std::invalid_argument(op + " '" + readable(node) + "': " + error.what());
  }
}

std::string node_name(const KernelInfo* info);

class Kernel {
 public:
  Kernel(const KernelInfo* info, std::string op, std::string session);
  virtual ~Kernel() = default;
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;

  // Runs the operator and records its statistics. Called from several threads at once.
  void compute(KernelContext* context) const;

 protected:
  virtual void run(KernelContext* tensors, Workspace& workspace) const = 0;
  const KernelAllocator& allocator() const { return allocator_; }
  const std::string& session() const { return session_; }
  const std::string& node() const { return node_; }

 private:
  std::string op_, session_, node_;
  KernelAllocator allocator_;
};

// Makes the kernels of a provider and an element type for one session's operators.
class KernelSource {
 public:
  virtual ~KernelSource() = default;
  virtual std::unique_ptr<Kernel> make(OperatorName name, const KernelInfo* info) const = 0;
};

// Returns the input if it is the same in all runs: a constant, or absent, which is an empty view.
std::optional<TensorView> fixed_input(const KernelInfo* info, size_t index);
// Returns the input if it is constant and present; an empty view otherwise.
TensorView constant_input(const KernelInfo* info, size_t index);

// Where the centroids of scope static are among ReuseConv's inputs.
constexpr size_t kCentroids = 8;
// Why a ReuseConv of scope static with other operands is refused.
constexpr const char* kNotConstant =
    "scope static needs W, bias, the parameters of the hash and centroids that are constant";

// Whether there is something in a tensor: an absent operand before a present one is a tensor without elements.
bool has_elements(const TensorView& tensor);

// Throws std::invalid_argument unless the tensor has that rank.
void require_rank(const TensorView& tensor, size_t rank, const char* name);

// The extents of an image tensor of rank 4.
struct ImageShape {
  int64_t batch, channels, height, width;
};
ImageShape image_shape(const TensorView& x, DataOrder order);

// Geometry of a run from the input and the number of output channels.
Blocking make_blocking(const ConvAttributes& attributes, const TensorView& x, int64_t out_channels);

// A family's parameters and their sizes.
struct HashInputs {
  // Of tensors projections, thresholds and coordinates.
  explicit HashInputs(const std::array<TensorView, 3>& tensors);
  // Throws std::invalid_argument unless H and the shapes are those that the family needs.
  void check(const HashFamily& family, const HashShape& shape) const;

  HashParameters parameters;
  HashParameterSizes sizes;
  int64_t num_blocks = 0;  // as the shapes of parameters tell it; 0 for a family without

 private:
  std::array<TensorView, 3> tensors_;
};

// Reads the parameters from input `first` on; nothing if `read(index)` returns nothing for one of them.
template <typename Read>
std::optional<HashInputs> read_hash_inputs(size_t first, const Read& read) {
  std::array<TensorView, 3> tensors;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const std::optional<TensorView> tensor = read(first + i);
    if (!tensor) return std::nullopt;
    tensors[i] = *tensor;
  }
  return HashInputs(tensors);
}
HashInputs read_hash_inputs(KernelContext* context, size_t first);

// The family's parameters of a run, their sizes checked against the blocking; inputs from `first` on.
HashParameters read_hash_parameters(KernelContext* context, size_t first, const HashAttributes& attributes,
                                    const Blocking& blocking);

// Throws std::invalid_argument unless the tensor has that shape.
void require_shape(const TensorView& tensor, const std::vector<int64_t>& shape, const char* name);

// The bias's elements, null if it is absent. Throws std::invalid_argument unless it is [M].
const void* bias_data(const TensorView& bias, int64_t out_channels, const char* name = "bias");

// Input channels of weights that are of rank 4.
int64_t in_channels_of(const TensorView& w, const ConvAttributes& conv);

// Throws std::invalid_argument unless the weights fit the attributes and, if it is known, the input.
void check_weights(const TensorView& w, const ConvAttributes& conv, std::optional<int64_t> in_channels,
                   const char* name = "W");

// Output channels of a Gather's table, which is of rank 3.
int64_t out_channels_of(const TensorView& table, const ConvAttributes& conv);

// Throws std::invalid_argument unless Cluster's given centroids are [B, C, L] of scope static, or absent in another.
void require_given(const TensorView& given, const ClusterAttributes& attributes, const Blocking& blocking);

// A blocking that is right in all that packing weights needs, for an input of any size.
Blocking blocking_of_weights(const ConvAttributes& conv, const TensorView& w);

// The convolution that a CentroidGemm's operands are of.
ConvAttributes conv_of_tables(Layout layout, int64_t group, const TensorView& centroids, const TensorView& w);

std::vector<int64_t> output_shape(const ConvGeometry& g);

}  // namespace reuse::ort
