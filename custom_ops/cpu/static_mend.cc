#include "static_mend.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <vector>

#include "gather.h"
#include "simd/kernels.h"
#include "tile.h"

namespace reuse {
namespace {

class Mender {
 public:
  Mender(const StaticTables& tables, const GatherAttributes& attributes, const Blocking& blocking, Workspace& workspace,
         const float* bias, float* y)
      : tables_(tables), attributes_(attributes), blocking_(blocking), workspace_(workspace), bias_(bias), y_(y) {}

  // Counts the vectors that are clusters of their own.
  void count(const float* x) const {
    std::atomic<int64_t> own{0};
    workspace_.parallel.run(blocking_.num_blocks(), [&](int64_t block) {
      Buffer<float> values(workspace_, static_cast<size_t>(blocking_.sub_vector_length() * kTileVectors));
      uint8_t finite[kTileVectors];
      for_tiles(0, blocking_.vectors, [&](int64_t first, int64_t count) {
        const Tile tile = load_tile(blocking_, x, block, first, count, values.data());
        simd::kernels().all_finite(tile.values, tile.stride, tile.length, count, finite);
        own += std::count(finite, finite + count, uint8_t{0});
      });
    });
    workspace_.statistics.clusters += own;
    workspace_.statistics.guarded += own;
  }

  void mend(const float* x) const {
    const ConvGeometry& g = blocking_.geometry;
    workspace_.parallel.run(g.batch * g.out_h, [&](int64_t task) {
      std::vector<float> sums(static_cast<size_t>(g.group_out_channels()));
      for (int64_t column = 0; column < g.out_w; ++column) {
        for (int64_t group = 0; group < g.attributes.group; ++group) {
          const Window window{task / g.out_h, task % g.out_h, column, group};
          if (add_dense(x, window, sums)) write_mended(window, sums);
        }
      }
    });
  }

 private:
  // What an output pixel of a group reads.
  struct Window {
    int64_t image, row, column, group;
  };

  // Sets `sums` to the dense products of the window's vectors that are not finite; returns whether there are any.
  bool add_dense(const float* x, const Window& window, std::vector<float>& sums) const {
    const ConvGeometry& g = blocking_.geometry;
    const int64_t channels = g.group_in_channels(), per_group = blocking_.blocks_per_group;
    const bool patch = blocking_.layout() == Layout::kPatch;
    std::vector<float> vector(static_cast<size_t>(blocking_.sub_vector_length()));
    bool any = false;
    for (int64_t block = window.group * per_group; block < (window.group + 1) * per_group; ++block) {
      const int64_t start = blocking_.block_start(block), length = blocking_.block_length(block);
      for (int64_t t = 0; t < blocking_.taps_per_block(); ++t) {
        const auto tap_of = [&](int64_t l) { return patch ? (start + l) / channels : t; };
        const auto channel_of = [&](int64_t l) { return patch ? (start + l) % channels : start + l; };
        bool finite = true;
        for (int64_t l = 0; l < length; ++l) {
          vector[static_cast<size_t>(l)] = input(x, window, channel_of(l), tap_of(l));
          finite = finite && std::isfinite(vector[static_cast<size_t>(l)]);
        }
        if (finite) continue;
        if (!any) std::fill(sums.begin(), sums.end(), 0.0f);
        any = true;
        for (int64_t l = 0; l < length; ++l) {
          const float* weights = tables_.operands().weights.data() + channel_of(l) * g.taps() + tap_of(l);
          for (int64_t m = 0; m < g.group_out_channels(); ++m) {
            const int64_t out = window.group * g.group_out_channels() + m;
            sums[static_cast<size_t>(m)] += vector[static_cast<size_t>(l)] * weights[out * channels * g.taps()];
          }
        }
        // Then nothing changes any more, as is soon the case where all of the input is spoilt.
        if (std::all_of(sums.begin(), sums.end(), [](float sum) { return std::isnan(sum); })) return true;
      }
    }
    return any;
  }

  // The input of a channel of the window's group that a tap reads, or a zero around the image.
  float input(const float* x, const Window& window, int64_t channel, int64_t tap) const {
    const ConvGeometry& g = blocking_.geometry;
    const ConvAttributes& a = g.attributes;
    const int64_t row = window.row * a.stride_h - a.pad_top + tap / a.kernel_w * a.dilation_h;
    const int64_t column = window.column * a.stride_w - a.pad_left + tap % a.kernel_w * a.dilation_w;
    if (row < 0 || row >= g.in_h || column < 0 || column >= g.in_w) return 0.0f;
    const int64_t of_image = window.group * g.group_in_channels() + channel;
    if (a.input_order == DataOrder::kNhwc) {
      return x[((window.image * g.in_h + row) * g.in_w + column) * g.in_channels + of_image];
    }
    return x[((window.image * g.in_channels + of_image) * g.in_h + row) * g.in_w + column];
  }

  void write_mended(const Window& window, const std::vector<float>& sums) const {
    const ConvGeometry& g = blocking_.geometry;
    const PixelTile pixel{window.image, window.row, 1, window.column, 1};
    const int64_t channels = g.group_out_channels(),
                  padded = (channels + simd::kLanes - 1) / simd::kLanes * simd::kLanes;
    std::vector<float> whole_vectors(sums);
    whole_vectors.resize(static_cast<size_t>(padded), 0.0f);
    const OutputChannels output{window.group * channels, channels, bias_, y_};
    write_tile(g, attributes_, output, pixel, false, {whole_vectors.data(), padded, false}, padded);
  }

  const StaticTables& tables_;
  const GatherAttributes& attributes_;
  const Blocking& blocking_;
  Workspace& workspace_;
  const float* bias_;
  float* y_;
};

}  // namespace

void mend_static_outputs(const StaticTables& tables, const GatherAttributes& attributes, const Blocking& blocking,
                         Workspace& workspace, const float* bias, const float* x, float* y) {
  Mender mender(tables, attributes, blocking, workspace, bias, y);
  mender.count(x);
  mender.mend(x);
}

}  // namespace reuse
