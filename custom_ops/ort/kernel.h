// What every operator's kernel has: its name, its statistics, and the memory and threads of a run.
#pragma once

#include <string>

#include "api.h"
#include "reuse/operators.h"
#include "reuse/statistics_registry.h"

namespace reuse::ort {

class Kernel {
 public:
  Kernel(const KernelInfo* info, std::string op, std::string session);
  virtual ~Kernel() = default;
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;

  // Runs the operator and records its statistics. Called from several threads at once.
  void compute(KernelContext* context) const;

 protected:
  virtual void run(KernelContext* tensors, Context& context) const = 0;
  const KernelAllocator& allocator() const { return allocator_; }

 private:
  std::string op_, session_, node_;
  KernelAllocator allocator_;
};

// Returns the input if it is constant and present; an empty view otherwise.
TensorView constant_input(const KernelInfo* info, size_t index);

// Throws std::invalid_argument unless the tensor has that rank.
void require_rank(const TensorView& tensor, size_t rank, const char* name);

// The extents of an image tensor of rank 4.
struct ImageShape {
  int64_t batch, channels, height, width;
};
ImageShape image_shape(const TensorView& x, DataOrder order);

// Geometry of a run from the input and the number of output channels.
Blocking make_blocking(const ConvAttributes& attributes, const TensorView& x, int64_t out_channels);

// The family's parameters of a run, checked against the blocking; inputs from `first` on.
HashParameters read_hash_parameters(KernelContext* context, size_t first, const HashAttributes& attributes,
                                    const Blocking& blocking);

// The bias, or null if it is absent. Throws std::invalid_argument if its size is not M.
const float* read_bias(KernelContext* context, size_t index, int64_t out_channels);

}  // namespace reuse::ort
