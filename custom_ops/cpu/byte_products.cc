#include "byte_products.h"

#include <algorithm>
#include <cstring>

#include "byte_weights.h"
#include "heuristics.h"
#include "simd/kernels.h"
#include "stopwatch.h"

namespace reuse {
namespace {

// Bytes of windows that are multiplied at once: with the weights of a tile of channels they stay in the L2 cache.
constexpr int64_t kWindowBytes = int64_t{256} << 10, kMostWindows = 512;

}  // namespace

void multiply_windows(const QuantisedPlan& plan, const Blocking& blocking, Workspace& workspace, int64_t group,
                      const ByteVectors& vectors, const ByteWindows& windows, uint8_t* y) {
  Stopwatch watch(workspace.statistics.gemm_ns);
  const ByteWeights& weights = plan.weights();
  const int64_t taps = blocking.taps_per_block(), row_bytes = weights.row_bytes();
  const int64_t seen = taps * blocking.blocks_per_group, first_block = group * blocking.blocks_per_group;
  const int64_t window_bytes = seen * row_bytes;
  const simd::MultiplyBytes multiply_bytes = simd::multiply_bytes();
  const int64_t at_once = std::clamp<int64_t>(kWindowBytes / window_bytes, 1, kMostWindows);
  workspace.parallel.run((windows.count() + at_once - 1) / at_once, [&](int64_t task) {
    const int64_t first = task * at_once, count = std::min(at_once, windows.count() - first);
    Buffer<uint8_t> rows(workspace, static_cast<size_t>(count * window_bytes));
    Buffer<int32_t> sums(workspace, static_cast<size_t>(count * kTileChannels));
    uint8_t* to = rows.data();
    for (int64_t w = 0; w < count; ++w) {
      const int32_t* ids = windows.ids() + (first + w) * windows.stride();
      for (int64_t b = first_block; b < first_block + blocking.blocks_per_group; ++b) {
        const uint8_t* const own = vectors.blocks[static_cast<size_t>(b)].rows();
        for (int64_t tap = 0; tap < taps; ++tap, to += row_bytes) {
          std::memcpy(to, own + *ids++ * row_bytes, static_cast<size_t>(row_bytes));
        }
      }
    }
    for (int64_t channel = 0; channel < weights.channels(); channel += kTileChannels) {
      const int64_t channels = std::min(kTileChannels, weights.channels() - channel);
      multiply_bytes(
          {rows.data(), count, seen, row_bytes, weights.strip(first_block, 0, channel), weights.channels() * row_bytes,
           weights.strip_bytes(), channels / simd::kLanes, plan.window_start(group) + channel, simd::kLanes},
          sums.data(), channels);
      if (const int32_t* zero_points = weights.zero_points(group)) {
        simd::kernels().subtract_zero_points(rows.data(), window_bytes, count, zero_points + channel, channels,
                                             channels, sums.data(), channels);
      }
      plan.write(group, channel, channels, sums.data(), channels, count, windows.places() + first, y);
    }
  });
}

}  // namespace reuse
