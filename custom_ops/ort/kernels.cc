#include "kernels.h"

#include <algorithm>
#include <optional>
#include <stdexcept>

#include "attributes.h"
#include "reuse/checked.h"
#include "reuse/plan.h"
#include "reuse/quantised.h"

namespace reuse::ort {
namespace {

class HashKernel final : public Kernel {
 public:
  HashKernel(const KernelInfo* info, std::string session)
      : Kernel(info, "Hash", std::move(session)),
        conv_(read_conv_attributes(KernelAttributes(info))),
        hash_(read_hash_attributes(KernelAttributes(info))),
        memory_(allocator()) {
    const auto inputs = read_hash_inputs(1, [&](size_t index) { return fixed_input(info, index); });
    // Family exact prepares nothing. Of the others it is the parameters that tell the number of blocks so far.
    if (!inputs || inputs->num_blocks == 0) return;
    sizes_ = inputs->sizes;
    inputs->check(*hash_.family, {inputs->num_blocks, conv_.sub_vector_length, hash_.num_hashes});
    encoder_ = make_encoder(memory_, hash_, inputs->num_blocks, conv_.sub_vector_length, inputs->parameters, sizes_);
  }

 private:
  void run(KernelContext* tensors, Workspace& workspace) const override {
    const TensorView x = input(tensors, 0);
    const Blocking blocking = make_blocking(conv_, x, conv_.group);
    const int64_t blocks = blocking.num_blocks(), length = blocking.sub_vector_length();
    std::unique_ptr<Encoder> own;
    if (encoder_) {
      hash_.family->check(sizes_, {blocks, length, hash_.num_hashes});
    } else {
      const HashInputs inputs = read_hash_inputs(tensors, 1);
      inputs.check(*hash_.family, {blocks, length, hash_.num_hashes});
      own = make_encoder(workspace, hash_, blocks, length, inputs.parameters, inputs.sizes);
    }
    int64_t* codes = output<int64_t>(tensors, 0, {blocks, blocking.vectors});
    hash(workspace, blocking, encoder_ ? *encoder_ : *own, x.as<float>(), codes);
  }

  ConvAttributes conv_;
  HashAttributes hash_;
  ScratchAllocator memory_;           // of the encoder
  std::unique_ptr<Encoder> encoder_;  // if all parameters are constant
  HashParameterSizes sizes_;          // of theirs
};

// The state of a node that keeps something, known to who reads statistics; else none.
std::shared_ptr<ReuseState> state_of(bool keeps_state, int64_t memory, const std::string& session,
                                     const std::string& node) {
  if (!keeps_state) return nullptr;
  auto state = std::make_shared<ReuseState>(memory);
  StatisticsRegistry::instance().attach(session, node, state);
  return state;
}

class ClusterKernel final : public Kernel {
 public:
  ClusterKernel(const KernelInfo* info, std::string session)
      : Kernel(info, "Cluster", std::move(session)),
        conv_(read_conv_attributes(KernelAttributes(info))),
        cluster_(read_cluster_attributes(KernelAttributes(info))),
        state_(state_of(cluster_.scope == Scope::kSession, cluster_.memory, this->session(), node())) {}

 private:
  void run(KernelContext* tensors, Workspace& workspace) const override {
    const TensorView x = input(tensors, 0), codes = input(tensors, 1);
    const Blocking blocking = make_blocking(conv_, x, conv_.group);
    const int64_t blocks = blocking.num_blocks();
    require_shape(codes, {blocks, blocking.vectors}, "codes");
    const TensorView given = input(tensors, 2);
    require_given(given, cluster_, blocking);
    const auto give_out = [&](const Clusters& clusters) { write(tensors, blocking, clusters); };
    if (cluster_.scope == Scope::kSession) {
      cluster(workspace, blocking, cluster_, *state_, x.as<float>(), codes.as<int64_t>(), give_out);
    } else if (cluster_.scope == Scope::kStatic) {
      give_out(
          given_clusters(workspace, blocking, given.as<float>(), given.shape[1], x.as<float>(), codes.as<int64_t>()));
    } else {
      give_out(cluster(workspace, blocking, cluster_, x.as<float>(), codes.as<int64_t>()));
    }
  }

  static void write(KernelContext* tensors, const Blocking& blocking, const Clusters& clusters) {
    const int64_t blocks = blocking.num_blocks(), vectors = blocking.vectors, length = blocking.sub_vector_length();
    int64_t capacity = 1;
    for (const BlockClusters& block : clusters.blocks) capacity = std::max(capacity, block.count);
    int32_t* ids = output<int32_t>(tensors, 0, {blocks, vectors});
    float* centroids = output<float>(tensors, 1, {blocks, capacity, length});
    int32_t* counts = output<int32_t>(tensors, 2, {blocks});
    std::copy_n(clusters.ids.data(), blocks * vectors, ids);
    for (int64_t b = 0; b < blocks; ++b) {
      const BlockClusters& block = clusters.blocks[static_cast<size_t>(b)];
      counts[b] = static_cast<int32_t>(block.count);
      float* rows = centroids + b * capacity * length;
      std::copy_n(block.centroids.data(), block.count * length, rows);
      std::fill(rows + block.count * length, rows + capacity * length, 0.0f);
    }
  }

  ConvAttributes conv_;
  ClusterAttributes cluster_;
  std::shared_ptr<ReuseState> state_;
};

class CentroidGemmKernel final : public Kernel {
 public:
  CentroidGemmKernel(const KernelInfo* info, std::string session)
      : Kernel(info, "CentroidGemm", std::move(session)),
        layout_(read_layout(KernelAttributes(info))),
        group_(read_group(KernelAttributes(info))) {}

 private:
  void run(KernelContext* tensors, Workspace& workspace) const override {
    const TensorView centroids = input(tensors, 0), counts = input(tensors, 1), w = input(tensors, 2);
    const ConvAttributes conv = conv_of_tables(layout_, group_, centroids, w);
    const Blocking blocking = blocking_of_weights(conv, w);
    const int64_t capacity = centroids.shape[1];
    require_shape(centroids, {blocking.num_blocks(), capacity, conv.sub_vector_length}, "centroids");
    require_shape(counts, {blocking.num_blocks()}, "counts");
    float* table = output<float>(tensors, 0, {blocking.num_blocks(), capacity, blocking.table_width()});
    centroid_gemm(workspace, blocking, w.as<float>(), centroids.as<float>(), counts.as<int32_t>(), capacity, table);
  }

  Layout layout_;
  int64_t group_;
};

class GatherKernel final : public Kernel {
 public:
  GatherKernel(const KernelInfo* info, std::string session)
      : Kernel(info, "Gather", std::move(session)),
        conv_(read_conv_attributes(KernelAttributes(info))),
        gather_(read_gather_attributes(KernelAttributes(info))) {}

 private:
  void run(KernelContext* tensors, Workspace& workspace) const override {
    const TensorView table = input(tensors, 0), ids = input(tensors, 1), x = input(tensors, 2);
    require_rank(table, 3, "table");
    const Blocking blocking = make_blocking(conv_, x, out_channels_of(table, conv_));
    require_shape(table, {blocking.num_blocks(), table.shape[1], blocking.table_width()}, "table");
    require_shape(ids, {blocking.num_blocks(), blocking.vectors}, "ids");
    const float* bias = static_cast<const float*>(bias_data(input(tensors, 3), blocking.geometry.out_channels));
    float* y = output<float>(tensors, 0, output_shape(blocking.geometry));
    gather(workspace, blocking, gather_, table.as<float>(), table.shape[1], ids.as<int32_t>(), bias, y);
  }

  ConvAttributes conv_;
  GatherAttributes gather_;
};

// Gives the plan the operands that it lacks, as far as `read(index)` returns them.
template <typename Read>
void complete(ReusePlan& plan, Allocator& memory, const Read& read) {
  const ConvAttributes& conv = plan.attributes().conv;
  if (!plan.has_weights()) {
    const std::optional<TensorView> w = read(1), centroids = read(kCentroids);
    if (!w || !centroids) return;
    check_weights(*w, conv, std::nullopt);
    const int64_t in_channels = in_channels_of(*w, conv), out_channels = w->shape[0];
    if (plan.attributes().cluster.scope == Scope::kStatic) {
      plan.set_static(in_channels, out_channels, w->template as<float>(), centroids->template as<float>(),
                      centroids->size());
    } else {
      checked::require(!has_elements(*centroids), "centroids are for scope static only");
      plan.set_weights(memory, in_channels, out_channels, w->template as<float>());
    }
  }
  if (!plan.has_bias()) {
    const std::optional<TensorView> bias = read(2);
    if (bias) plan.set_bias(static_cast<const float*>(bias_data(*bias, plan.out_channels())), bias->size());
  }
  if (!plan.has_hash()) {
    const std::optional<HashInputs> inputs = read_hash_inputs(3, read);
    if (!inputs) return;
    inputs->check(*plan.attributes().hash.family, plan.hash_shape());
    plan.set_hash(memory, inputs->parameters, inputs->sizes);
  }
}

void run_plan(const ReusePlan& plan, ReuseState* state, KernelContext* tensors, Workspace& workspace) {
  const TensorView x = input(tensors, 0);
  require_rank(x, 4, "X");
  const ImageShape shape = image_shape(x, plan.attributes().conv.input_order);
  if (shape.channels != plan.in_channels()) {
    throw std::invalid_argument("X has " + std::to_string(shape.channels) + " channels, which does not fit the " +
                                std::to_string(plan.in_channels()) + " of W and group");
  }
  const Blocking blocking = plan.blocking(shape.batch, shape.height, shape.width);
  float* y = output<float>(tensors, 0, output_shape(blocking.geometry));
  reuse_conv(plan, state, blocking, workspace, x.as<float>(), y);
}

class ReuseConvKernel final : public Kernel {
 public:
  ReuseConvKernel(const KernelInfo* info, std::string session)
      : Kernel(info, "ReuseConv", std::move(session)),
        memory_(allocator()),
        plan_(read_reuse_attributes(KernelAttributes(info))) {
    complete(plan_, memory_, [&](size_t index) { return fixed_input(info, index); });
    const Scope scope = plan_.attributes().cluster.scope;
    checked::require(plan_.is_complete() || scope != Scope::kStatic, kNotConstant);
    checked::require(plan_.is_complete() || scope != Scope::kSession,
                     "scope session needs W, bias and the parameters of the hash that are constant");
    const ReuseAttributes& attributes = plan_.attributes();
    state_ = state_of(attributes.keeps_state(), attributes.cluster.memory, this->session(), node());
  }

 private:
  void run(KernelContext* tensors, Workspace& workspace) const override {
    if (plan_.is_complete()) return run_plan(plan_, state_.get(), tensors, workspace);
    ReusePlan plan = plan_;
    complete(plan, workspace, [&](size_t index) { return std::optional(input(tensors, index)); });
    run_plan(plan, nullptr, tensors, workspace);
  }

  ScratchAllocator memory_;  // of the plan
  ReusePlan plan_;           // with all operands that are constant
  std::shared_ptr<ReuseState> state_;
};

// Requires a scalar, [1] or [channels].
void require_one_or(const TensorView& tensor, const char* name, int64_t channels) {
  const std::vector<int64_t>& s = tensor.shape;
  const bool fits = s.empty() || (s.size() == 1 && (s[0] == 1 || s[0] == channels));
  checked::require(fits, std::string(name) + " has shape " + to_string(s) + ", must be a scalar or have 1 element" +
                             (channels == 1 ? "" : " or " + std::to_string(channels)));
}

std::vector<float> reals(const TensorView& tensor, const char* name, int64_t channels) {
  require_one_or(tensor, name, channels);
  return {tensor.as<float>(), tensor.as<float>() + tensor.size()};
}

std::vector<int32_t> bytes(const TensorView& tensor, const char* name, int64_t channels) {
  require_one_or(tensor, name, channels);
  if (tensor.type == kInt8) return {tensor.as<int8_t>(), tensor.as<int8_t>() + tensor.size()};
  return {tensor.as<uint8_t>(), tensor.as<uint8_t>() + tensor.size()};
}

// The constant inputs of a convolution of bytes.
class QuantisedInputs {
 public:
  // `others`: the inputs that need not be constant.
  QuantisedInputs(const KernelInfo* info, const char* others)
      : info_(info), others_(others), conv_(read_conv_attributes(KernelAttributes(info))) {}

  const ConvAttributes& conv() const { return conv_; }
  Scope scope() const { return parse_scope(KernelAttributes(info_).text("scope").value_or("batch")); }

  const KernelInfo* info() const { return info_; }

  IntegerOperands integers(size_t weights, size_t zero_points) const {
    const TensorView w = constant(weights, "w");
    check_weights(w, conv_, std::nullopt, "w");
    const int64_t channels = w.shape[0];
    return {in_channels_of(w, conv_), channels, ByteTensor{w.data, w.type == kInt8},
            bytes(constant(zero_points, "w_zero_point"), "w_zero_point", channels)};
  }

  TensorView constant(size_t index, const char* name) const {
    const std::optional<TensorView> tensor = fixed_input(info_, index);
    if (!tensor) {
      throw std::invalid_argument(std::string(name) + " is not constant; all inputs but " + others_ + " must be");
    }
    return *tensor;
  }

 private:
  const KernelInfo* info_;
  const char* others_;
  ConvAttributes conv_;
};

template <typename BytePlan>
void run_bytes(const BytePlan& plan, ReuseState* state, KernelContext* tensors, Workspace& workspace) {
  const TensorView x = input(tensors, 0);
  require_rank(x, 4, "x");
  const ImageShape shape = image_shape(x, DataOrder::kNhwc);
  if (shape.channels != plan.in_channels()) {
    throw std::invalid_argument("x has " + std::to_string(shape.channels) + " channels, which does not fit the " +
                                std::to_string(plan.in_channels()) + " of w and group");
  }
  const Blocking blocking = plan.blocking(shape.batch, shape.height, shape.width);
  const ConvGeometry& g = blocking.geometry;
  auto* y = output<uint8_t>(tensors, 0, {g.batch, g.out_h, g.out_w, g.out_channels});
  qlinear_reuse_conv(plan, state, blocking, workspace, x.as<uint8_t>(), y);
}

class QLinearReuseConvKernel final : public Kernel {
 public:
  QLinearReuseConvKernel(const KernelInfo* info, std::string session)
      : Kernel(info, "QLinearReuseConv", std::move(session)), memory_(allocator()) {
    const KernelAttributes attributes(info);
    const QuantisedInputs inputs(info, "x");
    const QuantisedOperands operands = read_operands(inputs);
    if (inputs.scope() == Scope::kStatic) {
      static_plan_ = std::make_unique<const StaticBytePlan>(memory_, operands, read_static(inputs, operands));
    } else if (attributes.text("family").value_or("exact") != "exact") {
      checked::require(!read_incremental(attributes),
                       "incremental is 1, and centroids of a run change with all that is in it: family must be exact, "
                       "or scope static");
      coded_plan_ = std::make_unique<const CodedBytePlan>(memory_, operands, read_coded(inputs));
    } else {
      plan_ = std::make_unique<const QuantisedPlan>(memory_, inputs.conv(), inputs.scope(), operands);
    }
    state_ = state_of(read_incremental(attributes), read_memory(attributes), this->session(), node());
  }

 private:
  static QuantisedOperands read_operands(const QuantisedInputs& inputs) {
    const TensorView x_zero_point = inputs.constant(2, "x_zero_point");
    const TensorView y_zero_point = inputs.constant(7, "y_zero_point"), bias = inputs.constant(8, "B");
    const IntegerOperands integers = inputs.integers(3, 5);
    const int64_t channels = integers.out_channels;
    return {integers,
            x_zero_point.type == kInt8,
            y_zero_point.type == kInt8,
            reals(inputs.constant(1, "x_scale"), "x_scale", 1)[0],
            reals(inputs.constant(6, "y_scale"), "y_scale", 1)[0],
            bytes(x_zero_point, "x_zero_point", 1)[0],
            bytes(y_zero_point, "y_zero_point", 1)[0],
            reals(inputs.constant(4, "w_scale"), "w_scale", channels),
            static_cast<const int32_t*>(bias_data(bias, channels, "B"))};
  }

  static CodedByteOperands read_coded(const QuantisedInputs& inputs) {
    const HashInputs hash = read_hash(inputs);
    return {inputs.conv(), inputs.scope(), read_hash_attributes(KernelAttributes(inputs.info())), hash.parameters,
            hash.sizes};
  }

  static HashInputs read_hash(const QuantisedInputs& inputs) {
    const char* const what = "a parameter of the hash";
    return HashInputs({inputs.constant(kByteParameters, what), inputs.constant(kByteParameters + 1, what),
                       inputs.constant(kByteParameters + 2, what)});
  }

  static StaticByteOperands read_static(const QuantisedInputs& inputs, const QuantisedOperands& operands) {
    const TensorView centroids = inputs.constant(kByteParameters + 3, "centroids");
    const TensorView weights = inputs.constant(kByteParameters + 4, "fitted_weights");
    const TensorView bias = inputs.constant(kByteParameters + 5, "fitted_bias");
    if (has_elements(weights)) {
      const std::vector<int64_t> shape{operands.out_channels, operands.in_channels / inputs.conv().group,
                                       inputs.conv().kernel_h, inputs.conv().kernel_w};
      require_shape(weights, shape, "fitted_weights");
    }
    StaticByteOperands result{read_reuse_attributes(KernelAttributes(inputs.info()), "int8"),
                              {},
                              {},
                              centroids.as<float>(),
                              centroids.size(),
                              has_elements(weights) ? weights.as<float>() : nullptr,
                              static_cast<const float*>(bias_data(bias, operands.out_channels, "fitted_bias"))};
    const HashInputs hash = read_hash(inputs);
    result.parameters = hash.parameters;
    result.parameter_sizes = hash.sizes;
    return result;
  }

  void run(KernelContext* tensors, Workspace& workspace) const override {
    if (plan_ != nullptr) return run_bytes(*plan_, state_.get(), tensors, workspace);
    if (coded_plan_ != nullptr) return run_bytes(*coded_plan_, state_.get(), tensors, workspace);
    run_bytes(*static_plan_, state_.get(), tensors, workspace);
  }

  static constexpr size_t kByteParameters = 9;  // the input that the parameters of the hash begin with

  ScratchAllocator memory_;  // of the plan
  std::unique_ptr<const QuantisedPlan> plan_;
  std::unique_ptr<const StaticBytePlan> static_plan_;  // in its place, as is the next
  std::unique_ptr<const CodedBytePlan> coded_plan_;
  std::shared_ptr<ReuseState> state_;  // of an incremental one
};

class ReuseConvIntegerKernel final : public Kernel {
 public:
  ReuseConvIntegerKernel(const KernelInfo* info, std::string session)
      : Kernel(info, "ReuseConvInteger", std::move(session)), memory_(allocator()), plan_(make_plan(info, memory_)) {}

 private:
  static QuantisedPlan make_plan(const KernelInfo* info, Allocator& memory) {
    const QuantisedInputs inputs(info, "x, x_zero_point, scale and B");
    return QuantisedPlan(memory, inputs.conv(), inputs.scope(), inputs.integers(1, 3));
  }

  void run(KernelContext* tensors, Workspace& workspace) const override {
    const TensorView zero_point = input(tensors, 2), scale = input(tensors, 4), bias = input(tensors, 5);
    const std::vector<float> scales{scale.as<float>(), scale.as<float>() + scale.size()};
    const auto* biases = static_cast<const float*>(bias_data(bias, plan_.out_channels(), "B"));
    const int32_t x_zero_point = bytes(zero_point, "x_zero_point", 1)[0];
    run_bytes(plan_.with(zero_point.type == kInt8, x_zero_point, scales, biases), nullptr, tensors, workspace);
  }

  ScratchAllocator memory_;  // of the plan
  QuantisedPlan plan_;
};

class PoolKernel final : public Kernel {
 public:
  PoolKernel(const KernelInfo* info, std::string session, PoolMode mode)
      : Kernel(info, mode == PoolMode::kMax ? "MaxPool" : "AveragePool", std::move(session)),
        pool_(read_pool_attributes(KernelAttributes(info), mode)) {}

 private:
  void run(KernelContext* tensors, Workspace& workspace) const override {
    const TensorView x = input(tensors, 0);
    require_rank(x, 4, "X");
    const ImageShape shape = image_shape(x, DataOrder::kNhwc);
    const PoolAxis height = pool_axis(pool_, 0, shape.height), width = pool_axis(pool_, 1, shape.width);
    float* y = output<float>(tensors, 0, {shape.batch, height.out, width.out, shape.channels});
    pool(workspace, pool_, shape.batch, height, width, shape.channels, x.as<float>(), y);
  }

  PoolAttributes pool_;
};

class RedundancyKernel final : public Kernel {
 public:
  RedundancyKernel(const KernelInfo* info, std::string session)
      : Kernel(info, "Redundancy", std::move(session)),
        redundancy_(read_redundancy_attributes(KernelAttributes(info))) {}

 private:
  void run(KernelContext* tensors, Workspace& workspace) const override {
    const TensorView x = input(tensors, 0);
    const std::vector<int64_t>& s = x.shape;
    checked::require(s.size() == 3 || s.size() == 4, "X has shape " + to_string(s) + ", needs rank 3 or 4");
    const int64_t height = s.size() == 4 ? s[2] : 1;
    const std::vector<float> shares =
        repeated_shares(workspace, redundancy_, s[0], s[1], height, s.back(), x.as<float>());
    *output<bool>(tensors, 0, {}) = redundancy_.are_enough(shares);
    float* given = output<float>(tensors, 1, {static_cast<int64_t>(shares.size())});
    if (given != nullptr) std::copy(shares.begin(), shares.end(), given);
  }

  RedundancyAttributes redundancy_;
};

class HoldKernel final : public Kernel {
 public:
  HoldKernel(const KernelInfo* info, std::string session)
      : Kernel(info, "Hold", std::move(session)),
        hold_(read_hold_attributes(KernelAttributes(info))),
        state_(state_of(true, hold_.memory, this->session(), node())) {}

 private:
  void run(KernelContext* tensors, Workspace& workspace) const override {
    const TensorView x = input(tensors, 0);
    require_rank(x, 4, "X");
    const ImageShape s = image_shape(x, hold_.axis == 1 ? DataOrder::kNchw : DataOrder::kNhwc);
    const HeldShape shape{s.batch, s.channels, s.height, s.width};
    if (x.type == kUint8) {
      hold(workspace, *state_, hold_, shape, x.as<uint8_t>(), output<uint8_t>(tensors, 0, x.shape));
    } else {
      hold(workspace, *state_, hold_, shape, x.as<float>(), output<float>(tensors, 0, x.shape));
    }
  }

  HoldAttributes hold_;
  std::shared_ptr<ReuseState> state_;
};

}  // namespace

std::unique_ptr<Kernel> CpuKernelSource::make(OperatorName name, const KernelInfo* info) const {
  switch (name) {
    case OperatorName::kHash:
      return std::make_unique<HashKernel>(info, session_);
    case OperatorName::kCluster:
      return std::make_unique<ClusterKernel>(info, session_);
    case OperatorName::kCentroidGemm:
      return std::make_unique<CentroidGemmKernel>(info, session_);
    case OperatorName::kGather:
      return std::make_unique<GatherKernel>(info, session_);
    case OperatorName::kReuseConv:
      return std::make_unique<ReuseConvKernel>(info, session_);
    case OperatorName::kMaxPool:
      return std::make_unique<PoolKernel>(info, session_, PoolMode::kMax);
    case OperatorName::kAveragePool:
      return std::make_unique<PoolKernel>(info, session_, PoolMode::kAverage);
    case OperatorName::kRedundancy:
      return std::make_unique<RedundancyKernel>(info, session_);
    case OperatorName::kHold:
      return std::make_unique<HoldKernel>(info, session_);
    case OperatorName::kQLinearReuseConv:
      return std::make_unique<QLinearReuseConvKernel>(info, session_);
    case OperatorName::kReuseConvInteger:
      return std::make_unique<ReuseConvIntegerKernel>(info, session_);
  }
  return nullptr;
}

}  // namespace reuse::ort
