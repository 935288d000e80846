// Pooling of pixel-major data: vectors of channels, so that windows of any size need no shuffles.
#include "lanes.h"
#include "table_kernels.h"

namespace reuse {
namespace simd {
namespace REUSE_TARGET {
namespace {

struct Maximum {
  // As the instruction does it: where either is NaN, `value`.
  static REUSE_INLINE Lanes combine(const Lanes& total, const Lanes& value) {
    Lanes result;
    for (int64_t i = 0; i < kParts; ++i) {
      result.part[i] = total.part[i] > value.part[i] ? total.part[i] : value.part[i];
    }
    return result;
  }
};

struct Sum {
  static REUSE_INLINE Lanes combine(const Lanes& total, const Lanes& value) { return total + value; }
};

// The part of a window that lies in the input.
struct Window {
  const float* first;
  int64_t rows, columns;
  int64_t row_step, column_step;
};

// Combines kVectors vectors of channels over a window; not empty.
template <typename Reduction, int64_t kVectors>
REUSE_INLINE void reduce(const Window& window, float scale, float* y) {
  Lanes total[kVectors];
  for (int64_t v = 0; v < kVectors; ++v) total[v] = load(window.first + v * kLanes);
  for (int64_t i = 0; i < window.rows; ++i) {
    const float* row = window.first + i * window.row_step;
    for (int64_t j = i == 0 ? 1 : 0; j < window.columns; ++j) {
      const float* pixel = row + j * window.column_step;
      for (int64_t v = 0; v < kVectors; ++v) total[v] = Reduction::combine(total[v], load(pixel + v * kLanes));
    }
  }
  for (int64_t v = 0; v < kVectors; ++v) store(y + v * kLanes, total[v] * scale);
}

// The same for channels that do not fill a vector.
template <typename Reduction>
REUSE_INLINE void reduce_tail(const Window& window, float scale, int64_t channels, float* y) {
  Lanes total = load_first(window.first, channels);
  for (int64_t i = 0; i < window.rows; ++i) {
    const float* row = window.first + i * window.row_step;
    for (int64_t j = i == 0 ? 1 : 0; j < window.columns; ++j) {
      total = Reduction::combine(total, load_first(row + j * window.column_step, channels));
    }
  }
  store_first(y, total * scale, channels);
}

template <typename Reduction>
REUSE_INLINE void pool(const PoolRow& row, float* y) {
  for (int64_t o = 0; o < row.out_w; ++o, y += row.channels) {
    const int64_t left = row.left + o * row.stride_w, end = left + row.kernel_w;
    const int64_t begin = left < 0 ? 0 : left, columns = (end > row.in_w ? row.in_w : end) - begin;
    Window window{row.x + begin * row.channels, row.rows, columns, row.in_w * row.channels, row.channels};
    const int64_t divisor = !row.average ? 1 : row.divisor > 0 ? row.divisor : row.rows * columns;
    const float scale = 1.0f / static_cast<float>(divisor);
    int64_t c = 0;
    for (; c + 4 * kLanes <= row.channels; c += 4 * kLanes, window.first += 4 * kLanes) {
      reduce<Reduction, 4>(window, scale, y + c);
    }
    for (; c + kLanes <= row.channels; c += kLanes, window.first += kLanes) reduce<Reduction, 1>(window, scale, y + c);
    if (c < row.channels) reduce_tail<Reduction>(window, scale, row.channels - c, y + c);
  }
}

}  // namespace

void pool_row(const PoolRow& row, float* y) {
  if (row.average) {
    pool<Sum>(row, y);
  } else {
    pool<Maximum>(row, y);
  }
}

}  // namespace REUSE_TARGET
}  // namespace simd
}  // namespace reuse
