// The kernels of the operators, CPU provider.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "attributes.h"
#include "kernel.h"

namespace reuse::ort {

class CpuKernelSource final : public KernelSource {
 public:
  explicit CpuKernelSource(std::string session) : session_(std::move(session)) {}
  std::unique_ptr<Kernel> make(OperatorName name, const KernelInfo* info) const override;

 private:
  std::string session_;
};

class HashKernel final : public Kernel {
 public:
  HashKernel(const KernelInfo* info, std::string session);

 private:
  void run(KernelContext* tensors, Context& context) const override;
  ConvAttributes conv_;
  HashAttributes hash_;
};

class ClusterKernel final : public Kernel {
 public:
  ClusterKernel(const KernelInfo* info, std::string session);

 private:
  void run(KernelContext* tensors, Context& context) const override;
  ConvAttributes conv_;
  ClusterAttributes cluster_;
};

class CentroidGemmKernel final : public Kernel {
 public:
  CentroidGemmKernel(const KernelInfo* info, std::string session);

 private:
  void run(KernelContext* tensors, Context& context) const override;
  Layout layout_;
  int64_t group_;
};

class GatherKernel final : public Kernel {
 public:
  GatherKernel(const KernelInfo* info, std::string session);

 private:
  void run(KernelContext* tensors, Context& context) const override;
  ConvAttributes conv_;
  GatherAttributes gather_;
};

class ReuseConvKernel final : public Kernel {
 public:
  ReuseConvKernel(const KernelInfo* info, std::string session);

 private:
  void run(KernelContext* tensors, Context& context) const override;
  ConvAttributes conv_;
  HashAttributes hash_;
  ClusterAttributes cluster_;
  GatherAttributes gather_;
  TableType table_;
  // Constant weights, packed once; their packing does not depend on the input's size.
  std::unique_ptr<ScratchAllocator> weights_allocator_;
  std::optional<PackedWeights> weights_;
};

class PoolKernel final : public Kernel {
 public:
  PoolKernel(const KernelInfo* info, std::string session);

 private:
  void run(KernelContext* tensors, Context& context) const override;
  PoolAttributes pool_;
};

}  // namespace reuse::ort
