// Sums of table rows, and their way to the output.
#include "lanes.h"
#include "table_kernels.h"

namespace reuse {
namespace simd {
namespace REUSE_TARGET {
namespace {

struct Range {
  int64_t begin, end;
};

// Taps of an axis that read inside the input: 0 <= first + tap * dilation < size.
REUSE_INLINE Range taps_inside(int64_t first, int64_t dilation, int64_t size, int64_t taps) {
  Range range{0, taps};
  while (range.begin < range.end && first + range.begin * dilation < 0) ++range.begin;
  while (range.end > range.begin && first + (range.end - 1) * dilation >= size) --range.end;
  return range;
}

// Sums of one pixel in registers.
template <int64_t kVectors>
struct RegisterSums {
  Lanes value[kVectors];

  REUSE_INLINE void start(const Sums& sums, const float* from, int64_t) {
    for (int64_t v = 0; v < kVectors; ++v) value[v] = sums.fresh ? Lanes{} : load(from + v * kLanes);
  }
  REUSE_INLINE void add(const float* source, int64_t) {
    for (int64_t v = 0; v < kVectors; ++v) value[v] += load(source + v * kLanes);
  }
  REUSE_INLINE void finish(float* to, int64_t) const {
    for (int64_t v = 0; v < kVectors; ++v) store(to + v * kLanes, value[v]);
  }
};

// Channels that do not fill a vector: table rows must not be read beyond their end.
struct TailSums {
  Lanes value;

  REUSE_INLINE void start(const Sums& sums, const float* from, int64_t) { value = sums.fresh ? Lanes{} : load(from); }
  REUSE_INLINE void add(const float* source, int64_t channels) { value += load_first(source, channels); }
  REUSE_INLINE void finish(float* to, int64_t) const { store(to, value); }
};

// Adds the taps of all blocks to the channels from `offset` on, for every pixel of the stretch.
template <typename PixelSums>
REUSE_INLINE void add_stretch(const Tables& tables, const TapRow& row, const Sums& sums, int64_t offset) {
  const Range rows = taps_inside(row.top, row.dilation_h, row.in_h, row.kernel_h);
  const int64_t span = (row.kernel_w - 1) * row.dilation_w, rest = tables.channels - offset;
  for (int64_t x = 0; x < row.columns; ++x) {
    const int64_t left = row.left + x * row.stride_w;
    Range columns{0, row.kernel_w};
    if (left < 0 || left + span >= row.in_w) columns = taps_inside(left, row.dilation_w, row.in_w, row.kernel_w);
    float* target = sums.values + x * sums.stride + offset;
    PixelSums own;
    own.start(sums, target, rest);
    for (int64_t b = 0; b < tables.num_blocks; ++b) {
      const float* block = static_cast<const float*>(tables.blocks[b].rows) + offset;
      for (int64_t i = rows.begin; i < rows.end; ++i) {
        const int64_t first = row.first_id + (row.top + i * row.dilation_h) * row.in_w + left;
        const float* taps = block + i * row.kernel_w * tables.tap_stride;
        for (int64_t j = columns.begin; j < columns.end; ++j) {
          const int64_t id = tables.blocks[b].ids[first + j * row.dilation_w];
          own.add(taps + id * tables.row_stride + j * tables.tap_stride, rest);
        }
      }
    }
    own.finish(target, rest);
  }
}

REUSE_INLINE Lanes activate(const Lanes& value, const OutputTile& output) {
  switch (output.activation) {
    case Activation::kNone:
      break;
    case Activation::kRelu:
      // Written so that NaN stays NaN, as in ONNX Runtime's Relu.
      return value < 0.0f ? Lanes{} : value;
    case Activation::kClip: {
      const Lanes low = Lanes{} + output.low, high = Lanes{} + output.high;
      const Lanes raised = value < low ? low : value;
      return raised > high ? high : raised;
    }
    case Activation::kLeakyRelu:
      return value < 0.0f ? value * output.low : value;
  }
  return value;
}

// Writes kLanes channels of up to kLanes pixels.
REUSE_INLINE void write_square(const Sums& sums, int64_t pixels, const OutputTile& output, int64_t channel,
                               const float* source, float* target) {
  const int64_t channels = output.channels - channel < kLanes ? output.channels - channel : kLanes;
  const Lanes bias = output.bias == nullptr ? Lanes{} : load_first(output.bias + channel, channels);
  Lanes square[kLanes];
  if (pixels >= kLanes) {
    for (int64_t p = 0; p < kLanes; ++p) square[p] = activate(load(source + p * sums.stride) + bias, output);
  } else {
    for (int64_t p = 0; p < kLanes; ++p) {
      square[p] = p < pixels ? activate(load(source + p * sums.stride) + bias, output) : Lanes{};
    }
  }
  transpose(square);
  if (pixels >= kLanes && channels == kLanes) {
    for (int64_t c = 0; c < kLanes; ++c) store(target + c * output.plane, square[c]);
  } else {
    for (int64_t c = 0; c < channels; ++c) {
      store_first(target + c * output.plane, square[c], pixels < kLanes ? pixels : kLanes);
    }
  }
}

}  // namespace

void add_taps(const Tables& tables, const TapRow& row, const Sums& sums) {
  int64_t offset = 0;
  for (; offset + 8 * kLanes <= tables.channels; offset += 8 * kLanes) {
    add_stretch<RegisterSums<8>>(tables, row, sums, offset);
  }
  for (; offset + 4 * kLanes <= tables.channels; offset += 4 * kLanes) {
    add_stretch<RegisterSums<4>>(tables, row, sums, offset);
  }
  for (; offset + kLanes <= tables.channels; offset += kLanes) {
    add_stretch<RegisterSums<1>>(tables, row, sums, offset);
  }
  if (offset < tables.channels) add_stretch<TailSums>(tables, row, sums, offset);
}

void write_output(const Sums& sums, int64_t pixels, const OutputTile& output) {
  for (int64_t c = 0; c < output.channels; c += kLanes) {
    for (int64_t p = 0; p < pixels; p += kLanes) {
      write_square(sums, pixels - p, output, c, sums.values + p * sums.stride + c, output.y + c * output.plane + p);
    }
  }
}

}  // namespace REUSE_TARGET
}  // namespace simd
}  // namespace reuse
