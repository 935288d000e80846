// ReuseConv with what is constant about it looked at once.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "reuse/operators.h"
#include "reuse/state.h"

namespace reuse {

// What the attributes of a ReuseConv say.
struct ReuseAttributes {
  ConvAttributes conv;
  HashAttributes hash;
  ClusterAttributes cluster;
  GatherAttributes gather;
  TableType table = TableType::kFloat;
  bool keep_tables = true;   // of scope static: from run to run
  bool incremental = false;  // of scope static: sums are kept from run to run

  // Whether a node has a state.
  bool keeps_state() const { return incremental || cluster.scope == Scope::kSession; }
  // Throws std::invalid_argument for an incremental node of another kind than there is.
  void check_incremental() const;
};

class StaticTables;

// A ReuseConv for inputs of any size: attributes, and operands checked and brought into the order that runs need. It
// refers to nothing of who gives the operands. What is not constant is set for each run, in a copy of what is; copies
// share the operands that they have. Each setter throws std::invalid_argument for what makes no sense.
class ReusePlan {
 public:
  explicit ReusePlan(ReuseAttributes attributes) : attributes_(std::move(attributes)) {}

  // `weights` are [M, Ic/group, kh, kw].
  void set_weights(Allocator& allocator, int64_t in_channels, int64_t out_channels, const float* weights);
  // Null for none. After the weights, as is the next.
  void set_bias(const float* bias, int64_t size);
  // For scope static, in place of set_weights: `centroids` are [B, 2^H, L], of so many elements.
  void set_static(int64_t in_channels, int64_t out_channels, const float* weights, const float* centroids,
                  int64_t size);
  void set_hash(Allocator& allocator, const HashParameters& parameters, const HashParameterSizes& sizes);

  bool has_weights() const { return weights_ != nullptr || static_tables_ != nullptr; }
  bool has_bias() const { return bias_ != nullptr; }
  bool has_hash() const { return encoder_ != nullptr; }
  bool is_complete() const { return has_weights() && has_bias() && has_hash(); }

  const ReuseAttributes& attributes() const { return attributes_; }
  // These need the weights, as does the blocking of an input.
  int64_t in_channels() const { return any_size_.geometry.in_channels; }
  int64_t out_channels() const { return any_size_.geometry.out_channels; }
  HashShape hash_shape() const {
    return {any_size_.num_blocks(), any_size_.sub_vector_length(), attributes_.hash.num_hashes};
  }
  Blocking blocking(int64_t batch, int64_t height, int64_t width) const;

  const Encoder& encoder() const { return *encoder_; }
  std::shared_ptr<const Encoder> shared_encoder() const { return encoder_; }
  const PackedWeights& weights() const { return *weights_; }
  // Null unless the scope is static.
  const StaticTables* static_tables() const { return static_tables_.get(); }
  const float* bias() const { return bias_->empty() ? nullptr : bias_->data(); }

 private:
  ReuseAttributes attributes_;
  Blocking any_size_;
  std::shared_ptr<const PackedWeights> weights_;
  std::shared_ptr<const StaticTables> static_tables_;
  std::shared_ptr<const std::vector<float>> bias_;  // empty for none
  std::shared_ptr<const Encoder> encoder_;
};

// Computes y [N, M, Oh, Ow] (or its attributes' order) of an input with that blocking, by a complete plan. The stages:
// vectors to codes (encode), codes to ids (group), members to centroids (represent), centroids to tables (multiply),
// table rows to outputs (assemble). `state` is the node's, of scope session or incremental; null for others.
void reuse_conv(const ReusePlan& plan, ReuseState* state, const Blocking& blocking, Workspace& workspace,
                const float* x, float* y);

}  // namespace reuse
