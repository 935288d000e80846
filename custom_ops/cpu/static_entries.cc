#include "reuse/static_entries.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "reuse/geometry.h"

namespace reuse {

int64_t tap_sums(const Blocking& blocking) {
  const int64_t columns = blocking.tap_columns();
  return blocking.taps_per_block() / columns * ((columns + kTapsAtOnce - 1) / kTapsAtOnce);
}

void check_static_sums(const Blocking& blocking) {
  const int64_t entries = blocking.blocks_per_group * blocking.taps_per_block(), sums = tap_sums(blocking);
  if (entries <= kMostStaticEntries && sums <= kMostTapSums) return;
  throw std::invalid_argument("table is int8, but outputs are sums of " + std::to_string(entries) + " entries, " +
                              std::to_string(sums) + " sums of neighbouring taps in a block: at most " +
                              std::to_string(kMostStaticEntries) + " and " + std::to_string(kMostTapSums) +
                              " are exact; set table to float");
}

double largest_tap_sum(const Blocking& blocking, const float* largest, int64_t stride) {
  const int64_t columns = blocking.tap_columns();
  double most = 0.0;
  for (int64_t row = 0; row < blocking.taps_per_block(); row += columns) {
    for (int64_t first = 0; first < columns; first += kTapsAtOnce) {
      double sum = 0.0;
      for (int64_t i = first; i < std::min(columns, first + kTapsAtOnce); ++i)
        sum += double{largest[(row + i) * stride]};
      keep_larger(most, sum);
    }
  }
  return most;
}

StaticScale static_scale(double largest_sum) {
  if (!(largest_sum <= 0x1p120)) {
    throw std::invalid_argument(
        "table is int8, but products of centroids and W exceed 2^120 or are NaN; set table to float");
  }
  if (largest_sum < 0x1p-100) return {};
  return {static_cast<float>(largest_sum / kLargestTapSum), static_cast<float>(kLargestTapSum / largest_sum)};
}

}  // namespace reuse
