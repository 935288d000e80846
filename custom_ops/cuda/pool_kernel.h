// Pooling of pixel-major tensors (docs/operators.md, Pool).
#pragma once

#include "execution.h"
#include "numbers.h"

namespace reuse::cuda {

struct PoolShape {
  int32_t in_h, in_w, out_h, out_w, channels;
  int32_t kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left;
  bool average, count_include_pad;
};

// One thread per output element; neighbours read neighbouring channels.
template <typename T>
struct PoolKernel {
  static constexpr int kThreads = 256;
  using Shared = NothingShared;

  PoolShape shape;
  int64_t elements;  // of y
  const T* x;
  T* y;

  REUSE_BOTH int64_t blocks() const { return divide_up<int64_t>(elements, kThreads); }
  REUSE_BOTH void run(const Group<kThreads>& group, Shared&) const {
    group.phase([&](int thread) {
      const int64_t at = group.block * kThreads + thread;
      if (at < elements) y[at] = from_float<T>(window(at));
    });
  }

 private:
  REUSE_BOTH float window(int64_t at) const {
    const PoolShape& s = shape;
    const int64_t channel = at % s.channels, pixel = at / s.channels;
    const int64_t image = pixel / (static_cast<int64_t>(s.out_h) * s.out_w);
    const int32_t row = static_cast<int32_t>(pixel / s.out_w % s.out_h) * s.stride_h - s.pad_top;
    const int32_t column = static_cast<int32_t>(pixel % s.out_w) * s.stride_w - s.pad_left;
    const int32_t rows_end = smaller(s.in_h, row + s.kernel_h), columns_end = smaller(s.in_w, column + s.kernel_w);
    float sum = 0.0f, most = 0.0f;
    int32_t count = 0;
    for (int32_t r = larger(row, 0); r < rows_end; ++r) {
      for (int32_t c = larger(column, 0); c < columns_end; ++c) {
        const float value = to_float(x[((image * s.in_h + r) * s.in_w + c) * s.channels + channel]);
        sum += value;
        most = count == 0 || value > most ? value : most;
        ++count;
      }
    }
    if (!s.average) return most;
    return sum / static_cast<float>(s.count_include_pad ? s.kernel_h * s.kernel_w : count);
  }
};

}  // namespace reuse::cuda
