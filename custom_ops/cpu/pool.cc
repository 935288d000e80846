// Operators MaxPool and AveragePool: maximum or average over windows of a pixel-major tensor.
#include "reuse/pool.h"

#include <algorithm>
#include <stdexcept>

#include "pieces.h"
#include "reuse/checked.h"
#include "simd/kernels.h"
#include "stopwatch.h"

namespace reuse {
namespace {

using checked::require;
using checked::require_extent;

}  // namespace

void PoolAttributes::check() const {
  for (const int64_t size : {kernel_h, kernel_w}) {
    require_extent(size, 1, "kernel_shape");
  }
  for (const int64_t stride : {stride_h, stride_w}) {
    require_extent(stride, 1, "strides");
  }
  for (const int64_t pad : {pad_top, pad_left, pad_bottom, pad_right}) {
    require_extent(pad, 0, "pads");
  }
  require(std::max(pad_top, pad_bottom) < kernel_h && std::max(pad_left, pad_right) < kernel_w,
          "pads must be smaller than the kernel");
  require(!(ceil_mode && count_include_pad), "count_include_pad with ceil_mode is not defined");
}

PoolAxis pool_axis(const PoolAttributes& a, int axis, int64_t size) {
  const bool vertical = axis == 0;
  require_extent(size, 0, vertical ? "input height" : "input width");
  const int64_t kernel = vertical ? a.kernel_h : a.kernel_w, stride = vertical ? a.stride_h : a.stride_w;
  AxisPads pads{0, 0};
  if (a.auto_pad == AutoPad::kNotSet) {
    pads = vertical ? AxisPads{a.pad_top, a.pad_bottom} : AxisPads{a.pad_left, a.pad_right};
  } else if (a.auto_pad != AutoPad::kValid) {
    pads = same_padding(size, kernel, stride, 1, a.auto_pad == AutoPad::kSameUpper);
  }
  // Rounded towards zero, as onnxruntime does: an input that lacks less than a stride still has a window.
  const int64_t rest = size + pads.begin + pads.end - kernel;
  int64_t out = rest / stride + 1;
  if (a.ceil_mode) {
    if (rest > 0 && rest % stride != 0) ++out;
    // A window that would begin in the padding at the end is none.
    if ((out - 1) * stride >= size + pads.begin) --out;
  }
  require(size >= 1 && out >= 1, "input " + std::string(vertical ? "height " : "width ") + std::to_string(size) +
                                     " with its padding is smaller than the kernel, which spans " +
                                     std::to_string(kernel));
  require(rest >= 0 || !a.count_include_pad, "count_include_pad is not defined for a kernel that spans more than X");
  return {size, out, pads.begin};
}

void pool(Workspace& workspace, const PoolAttributes& a, int64_t batch, const PoolAxis& height, const PoolAxis& width,
          int64_t channels, const float* x, float* y) {
  Stopwatch watch(workspace.statistics.gather_ns);
  // An empty image has no rows to count, however many there are of it.
  if (checked::product({batch, height.out, width.out, channels}, "the output") == 0) return;
  const int64_t divisor = a.count_include_pad ? a.kernel_h * a.kernel_w : 0;
  for_pieces(workspace.parallel, batch * height.out, [&](int64_t from, int64_t to) {
    for (int64_t row = from; row < to; ++row) {
      const int64_t image = row / height.out, top = row % height.out * a.stride_h - height.begin_pad;
      const int64_t begin = std::max<int64_t>(top, 0), end = std::min(top + a.kernel_h, height.in);
      const float* first = x + (image * height.in + begin) * width.in * channels;
      simd::kernels().pool_row({first, end - begin, width.in, channels, a.kernel_w, a.stride_w, -width.begin_pad,
                                width.out, a.mode == PoolMode::kAverage, divisor},
                               y + row * width.out * channels);
    }
  });
}

}  // namespace reuse
