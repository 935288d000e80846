// Operator Hold (docs/operators.md): pixels that keep their value until they really change, free of ONNX Runtime.
#pragma once

#include <cstdint>
#include <vector>

#include "reuse/runtime.h"
#include "reuse/state.h"

namespace reuse {

struct HoldAttributes {
  std::vector<float> tolerances;  // of all channels, or of each
  int64_t opening = 0, dilation = 0;
  int64_t patience = 0;  // runs after which what has differed in all of them is taken; 0: never
  int64_t axis = 1;      // of channels: 1 or 3
  int64_t memory = int64_t{1} << 28;

  // Throws std::invalid_argument naming the attribute that is wrong.
  void check() const;
};

// Images in one of the two orders.
struct HeldShape {
  int64_t batch, channels, height, width;
};

// Of T float or uint8_t.
template <typename T>
void hold(Workspace& workspace, ReuseState& state, const HoldAttributes& attributes, const HeldShape& shape, const T* x,
          T* y);

}  // namespace reuse
