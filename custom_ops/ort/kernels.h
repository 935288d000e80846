// The kernels of the operators, CPU provider.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "kernel.h"

namespace reuse::ort {

class CpuKernelSource final : public KernelSource {
 public:
  explicit CpuKernelSource(std::string session) : session_(std::move(session)) {}
  std::unique_ptr<Kernel> make(OperatorName name, const KernelInfo* info) const override;

 private:
  std::string session_;
};

}  // namespace reuse::ort
