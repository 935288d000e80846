// Reading a node's attributes, from a kernel's info or from shape inference, and turning them into the kernels'
// structs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ort_abi.h"
#include "reuse/hold.h"
#include "reuse/plan.h"
#include "reuse/pool.h"
#include "reuse/redundancy.h"

namespace reuse::ort {

// Where attributes come from. Each reader returns nothing if the attribute is absent, and throws if it has another
// type.
class AttributeSource {
 public:
  virtual ~AttributeSource() = default;
  virtual std::optional<int64_t> integer(const char* name) const = 0;
  virtual std::optional<float> real(const char* name) const = 0;
  virtual std::optional<std::string> text(const char* name) const = 0;
  virtual std::optional<std::vector<int64_t>> integers(const char* name) const = 0;
  virtual std::optional<std::vector<float>> reals(const char* name) const = 0;
};

class KernelAttributes final : public AttributeSource {
 public:
  explicit KernelAttributes(const KernelInfo* info) : info_(info) {}
  std::optional<int64_t> integer(const char* name) const override;
  std::optional<float> real(const char* name) const override;
  std::optional<std::string> text(const char* name) const override;
  std::optional<std::vector<int64_t>> integers(const char* name) const override;
  std::optional<std::vector<float>> reals(const char* name) const override;

 private:
  const KernelInfo* info_;
};

class InferenceAttributes final : public AttributeSource {
 public:
  explicit InferenceAttributes(const ShapeInferContext* context) : context_(context) {}
  std::optional<int64_t> integer(const char* name) const override;
  std::optional<float> real(const char* name) const override;
  std::optional<std::string> text(const char* name) const override;
  std::optional<std::vector<int64_t>> integers(const char* name) const override;
  std::optional<std::vector<float>> reals(const char* name) const override;

 private:
  const ShapeInferContext* context_;
};

// Each throws std::invalid_argument naming the attribute that is missing or wrong.
ConvAttributes read_conv_attributes(const AttributeSource& source);
HashAttributes read_hash_attributes(const AttributeSource& source);
// Of nodes that keep something from run to run: whether that is sums or results, and the most bytes that it may take.
bool read_incremental(const AttributeSource& source);
int64_t read_memory(const AttributeSource& source);
ClusterAttributes read_cluster_attributes(const AttributeSource& source);
GatherAttributes read_gather_attributes(const AttributeSource& source);
ReuseAttributes read_reuse_attributes(const AttributeSource& source, const char* default_table = "float");
Layout read_layout(const AttributeSource& source);
int64_t read_group(const AttributeSource& source);
// Reads input_perm and output_perm, which ReuseConv alone has.
void read_data_orders(const AttributeSource& source, ConvAttributes& attributes);
RedundancyAttributes read_redundancy_attributes(const AttributeSource& source);
HoldAttributes read_hold_attributes(const AttributeSource& source);
PoolAttributes read_pool_attributes(const AttributeSource& source, PoolMode mode);

}  // namespace reuse::ort
