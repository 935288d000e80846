// The kernels of the operators, CPU provider.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "attributes.h"
#include "kernel.h"
#include "reuse/plan.h"

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
  void run(KernelContext* tensors, Workspace& workspace) const override;
  ConvAttributes conv_;
  HashAttributes hash_;
  ScratchAllocator memory_;           // of the encoder
  std::unique_ptr<Encoder> encoder_;  // if all parameters are constant
  HashParameterSizes sizes_;          // of theirs
};

class ClusterKernel final : public Kernel {
 public:
  ClusterKernel(const KernelInfo* info, std::string session);

 private:
  void run(KernelContext* tensors, Workspace& workspace) const override;
  ConvAttributes conv_;
  ClusterAttributes cluster_;
};

class CentroidGemmKernel final : public Kernel {
 public:
  CentroidGemmKernel(const KernelInfo* info, std::string session);

 private:
  void run(KernelContext* tensors, Workspace& workspace) const override;
  Layout layout_;
  int64_t group_;
};

class GatherKernel final : public Kernel {
 public:
  GatherKernel(const KernelInfo* info, std::string session);

 private:
  void run(KernelContext* tensors, Workspace& workspace) const override;
  ConvAttributes conv_;
  GatherAttributes gather_;
};

class ReuseConvKernel final : public Kernel {
 public:
  ReuseConvKernel(const KernelInfo* info, std::string session);

 private:
  void run(KernelContext* tensors, Workspace& workspace) const override;
  ScratchAllocator memory_;  // of the plan
  ReusePlan plan_;           // with all operands that are constant
};

class PoolKernel final : public Kernel {
 public:
  PoolKernel(const KernelInfo* info, std::string session);

 private:
  void run(KernelContext* tensors, Workspace& workspace) const override;
  PoolAttributes pool_;
};

}  // namespace reuse::ort
