// Operator Redundancy (docs/operators.md): how much of a tensor repeats, free of ONNX Runtime and Python.
#pragma once

#include <cstdint>
#include <vector>

#include "reuse/runtime.h"

namespace reuse {

struct RedundancyAttributes {
  // Of each kind of window; all three are of one length.
  std::vector<int64_t> windows, strides;
  std::vector<float> gains;
  float threshold = 0.0f;
  int64_t samples = 256;
  int64_t channels = 8;

  // Throws std::invalid_argument naming the attribute that is wrong.
  void check() const;
  // Output `enough`, of the shares of all kinds of windows.
  bool are_enough(const std::vector<float>& shares) const;
};

// Output `shares` of images x [N, C, H, W].
std::vector<float> repeated_shares(Workspace& workspace, const RedundancyAttributes& attributes, int64_t batch,
                                   int64_t channels, int64_t height, int64_t width, const float* x);

}  // namespace reuse
