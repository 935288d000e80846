// Pooling of pixel-major tensors (docs/operators.md, MaxPool and AveragePool), free of ONNX Runtime and Python.
#pragma once

#include <cstdint>
#include <string>

#include "reuse/geometry.h"
#include "reuse/runtime.h"

namespace reuse {

enum class PoolMode { kMax, kAverage };

struct PoolAttributes {
  PoolMode mode = PoolMode::kMax;
  int64_t kernel_h = 1, kernel_w = 1;
  int64_t stride_h = 1, stride_w = 1;
  int64_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  AutoPad auto_pad = AutoPad::kNotSet;
  bool ceil_mode = false;
  bool count_include_pad = false;

  // Throws std::invalid_argument naming the attribute that no pooling can have.
  void check() const;
};

// One axis of a pooling on an input of known size.
struct PoolAxis {
  int64_t in, out;
  int64_t begin_pad;
};

// Returns axis 0 (height) or 1 (width); throws std::invalid_argument if the input has no window.
PoolAxis pool_axis(const PoolAttributes& attributes, int axis, int64_t size);

// Pool: x is [N, H, W, channels], y is [N, Oh, Ow, channels].
void pool(Workspace& workspace, const PoolAttributes& attributes, int64_t batch, const PoolAxis& height,
          const PoolAxis& width, int64_t channels, const float* x, float* y);

}  // namespace reuse
