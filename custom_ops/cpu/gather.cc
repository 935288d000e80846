// Operator Gather: sums the table rows of each output pixel's neuron vectors.
#include "gather.h"

#include <algorithm>
#include <stdexcept>

#include "simd/kernels.h"

namespace reuse {
namespace {

// Output channels summed at once by the staged operator.
constexpr int64_t kTileChannels = 64;

float activate(float value, const GatherAttributes& attributes) {
  switch (attributes.activation) {
    case Activation::kNone:
      return value;
    case Activation::kRelu:
      // Written so that NaN stays NaN, as in ONNX Runtime's Relu.
      return value < 0.0f ? 0.0f : value;
    case Activation::kClip: {
      const float low = attributes.activation_params[0], high = attributes.activation_params[1];
      const float raised = value < low ? low : value;
      return raised > high ? high : raised;
    }
    case Activation::kLeakyRelu:
      return value < 0.0f ? value * attributes.activation_params[0] : value;
  }
  return value;
}

void check_ids(const int32_t* ids, int64_t count, int64_t capacity) {
  for (int64_t i = 0; i < count; ++i) {
    if (ids[i] < 0 || ids[i] >= capacity) {
      throw std::out_of_range("ids hold " + std::to_string(ids[i]) + ", but the table has " + std::to_string(capacity) +
                              " rows per block");
    }
  }
}

}  // namespace

Activation parse_activation(const std::string& name) {
  if (name.empty() || name == "none") return Activation::kNone;
  if (name == "Relu") return Activation::kRelu;
  if (name == "Clip") return Activation::kClip;
  if (name == "LeakyRelu") return Activation::kLeakyRelu;
  throw std::invalid_argument("activation is '" + name + "', must be none, Relu, Clip or LeakyRelu");
}

void GatherAttributes::check() const {
  const size_t needed = activation == Activation::kClip ? 2 : activation == Activation::kLeakyRelu ? 1 : 0;
  if (activation_params.size() != needed) {
    throw std::invalid_argument("activation_params has " + std::to_string(activation_params.size()) +
                                " values, the activation needs " + std::to_string(needed));
  }
}

void add_block(Context& context, const Blocking& blocking, const TableTile& table, const int32_t* ids, float* sums,
               int64_t sums_stride) {
  const ConvGeometry& g = blocking.geometry;
  const ConvAttributes& a = g.attributes;
  // One task per output row of an image: rows share nothing.
  context.parallel.run(g.batch * g.out_h, [&](int64_t task) {
    const int64_t image = task / g.out_h, row = task % g.out_h;
    simd::GatherTile tile{
        ids,        table.rows, table.row_stride, table.tap_stride, table.channels, sums + task * g.out_w * sums_stride,
        sums_stride};
    if (blocking.layout() == Layout::kPatch) {
      tile.ids += task * g.out_w;
      simd::kernels().add_rows(tile, g.out_w);
      return;
    }
    const simd::TapRow taps{image * g.in_pixels(),
                            g.in_h,
                            g.in_w,
                            g.out_w,
                            a.kernel_h,
                            a.kernel_w,
                            a.dilation_h,
                            a.dilation_w,
                            a.stride_w,
                            row * a.stride_h - a.pad_top,
                            -a.pad_left};
    simd::kernels().add_taps(tile, taps);
  });
}

void write_output(Context& context, const Blocking& blocking, const GatherAttributes& attributes, const float* sums,
                  int64_t sums_stride, int64_t first_channel, int64_t channels, const float* bias, float* y) {
  const ConvGeometry& g = blocking.geometry;
  const int64_t pixels = g.out_pixels();
  context.parallel.run(g.batch * g.out_h, [&](int64_t task) {
    const int64_t image = task / g.out_h, row = task % g.out_h;
    const float* source = sums + task * g.out_w * sums_stride;
    for (int64_t c = 0; c < channels; ++c) {
      const float offset = bias == nullptr ? 0.0f : bias[first_channel + c];
      float* target = y + (image * g.out_channels + first_channel + c) * pixels + row * g.out_w;
      for (int64_t x = 0; x < g.out_w; ++x) target[x] = activate(source[x * sums_stride + c] + offset, attributes);
    }
  });
}

void gather(Context& context, const Blocking& blocking, const GatherAttributes& attributes, const float* table,
            int64_t capacity, const int32_t* ids, const float* bias, float* y) {
  const ConvGeometry& g = blocking.geometry;
  const int64_t blocks = blocking.num_blocks(), width = blocking.table_width(), channels = g.group_out_channels();
  check_ids(ids, blocks * blocking.vectors, capacity);
  Buffer<float> sums(context.allocator, static_cast<size_t>(g.rows() * std::min(channels, kTileChannels)));
  for (int64_t group = 0; group < g.attributes.group; ++group) {
    for (int64_t start = 0; start < channels; start += kTileChannels) {
      const int64_t count = std::min(kTileChannels, channels - start);
      std::fill_n(sums.data(), g.rows() * count, 0.0f);
      for (int64_t b = 0; b < blocking.blocks_per_group; ++b) {
        const int64_t block = group * blocking.blocks_per_group + b;
        const TableTile tile{table + block * capacity * width + start, width, channels, count};
        add_block(context, blocking, tile, ids + block * blocking.vectors, sums.data(), count);
      }
      write_output(context, blocking, attributes, sums.data(), count, group * channels + start, count, bias, y);
    }
  }
  context.statistics.blocks = blocks;
  context.statistics.rows = g.rows();
}

}  // namespace reuse
