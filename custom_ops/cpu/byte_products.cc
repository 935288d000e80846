#include "byte_products.h"

#include <algorithm>

#include "byte_weights.h"
#include "heuristics.h"
#include "simd/kernels.h"
#include "stopwatch.h"

namespace reuse {
namespace {

// Windows that are multiplied at once: their sums for a tile of channels stay in the L1 cache. The largest windows are
// fewer, so that they stay in the L2 cache with the weights of a tile.
constexpr int64_t kMostWindows = 96, kWindowBytes = int64_t{512} << 10;

}  // namespace

void multiply_windows(const QuantisedPlan& plan, const Blocking& blocking, Workspace& workspace, int64_t group,
                      int64_t count, const int32_t* places, const ReadWindows& read, uint8_t* y) {
  Stopwatch watch(workspace.statistics.gemm_ns);
  const ByteWeights& weights = plan.weights();
  const int64_t row_bytes = weights.row_bytes();
  const int64_t seen = blocking.taps_per_block() * blocking.blocks_per_group;
  const int64_t first_block = group * blocking.blocks_per_group;
  const int64_t window_bytes = seen * row_bytes;
  const simd::MultiplyBytes multiply_bytes = simd::multiply_bytes();
  const int64_t at_once = std::clamp<int64_t>(kWindowBytes / window_bytes, 1, kMostWindows);
  workspace.parallel.run((count + at_once - 1) / at_once, [&](int64_t task) {
    const int64_t first = task * at_once, own = std::min(at_once, count - first);
    Buffer<const uint8_t*> vectors(workspace, static_cast<size_t>(own * seen));
    Buffer<int32_t> sums(workspace, static_cast<size_t>(own * kTileChannels));
    Buffer<uint8_t> room(workspace);
    read(first, own, room, vectors.data());
    for (int64_t channel = 0; channel < weights.channels(); channel += kTileChannels) {
      const int64_t channels = std::min(kTileChannels, weights.channels() - channel);
      const simd::ByteProduct product{vectors.data(),
                                      own,
                                      seen,
                                      row_bytes,
                                      weights.strip(first_block, 0, channel),
                                      weights.channels() * row_bytes,
                                      weights.strip_bytes(),
                                      channels / simd::kLanes,
                                      plan.window_start(group) + channel,
                                      simd::kLanes};
      multiply_bytes(product, sums.data(), channels);
      if (const int32_t* zero_points = weights.zero_points(group)) {
        simd::kernels().subtract_zero_points(product, zero_points + channel, channels, sums.data(), channels);
      }
      plan.write(group, channel, channels, sums.data(), channels, own, places + first, y);
    }
  });
}

}  // namespace reuse
