#include "int8_scales.h"

#include <algorithm>
#include <cmath>

#include "simd/kernels.h"

namespace reuse {
namespace {

// Entries reach 126, not 127, so that rounding of products and norms cannot leave the range of a byte.
constexpr double kLargestEntry = 126.0;

// Bounds below this count as zero: their inverse would not be a float32.
constexpr double kSmallestBound = 0x1p-100;

// With bounds up to this no product, and no part of its sum, leaves the range of a float32 whatever the rounding: what
// overflows is an infinity or a NaN, for which a byte has no entry.
constexpr double kLargestBound = 0x1p126;

// The largest Euclidean norm of a block's centroids; NaN or infinite if one of them is.
double largest_norm(const BlockClusters& own, int64_t length) {
  double largest = 0.0;
  for (int64_t c = 0; c < own.count; ++c) {
    double squares = 0.0;
    for (int64_t l = 0; l < length; ++l) {
      const double value = own.centroids[static_cast<size_t>(c * length + l)];
      squares += value * value;
    }
    if (!(squares <= largest)) largest = squares;
    if (std::isnan(squares)) break;
  }
  return std::sqrt(largest);
}

}  // namespace

Int8Scales::Int8Scales(const Blocking& blocking, const PackedWeights& weights, const Clusters& clusters)
    : blocks_per_group_(blocking.blocks_per_group),
      blocks_per_scale_(simd::kMostInt8Rows / blocking.taps_per_block()),
      num_tiles_(weights.num_tiles()) {
  usable_ = blocks_per_scale_ > 0;
  if (!usable_) return;
  const size_t size = static_cast<size_t>(blocking.num_blocks() * num_tiles_ * simd::kInt8Channels);
  scales_.resize(size, 0.0f);  // one entry per block where one per group of blocks would do: small, and simple to find
  inverses_.resize(size, 0.0f);
  std::vector<double> norms;
  norms.reserve(clusters.blocks.size());
  for (const BlockClusters& own : clusters.blocks) norms.push_back(largest_norm(own, blocking.sub_vector_length()));
  for (int64_t begin = 0, end = 0; begin < blocking.num_blocks(); begin = end) {
    end = group_of(begin).end;
    for (int64_t tile = 0; tile < num_tiles_; ++tile) {
      for (int64_t c = 0; c < weights.tile_size(tile); ++c) {
        double bound = 0.0;
        for (int64_t b = begin; b < end; ++b) {
          const double of_block = norms[static_cast<size_t>(b)] * weights.norms(b, tile)[c];
          if (!(of_block <= bound) && !std::isnan(bound)) bound = of_block;
        }
        set(offset(begin, tile) + static_cast<size_t>(c), bound);
      }
    }
  }
}

BlockRange Int8Scales::group_of(int64_t block) const {
  const int64_t within = block % blocks_per_group_;
  const int64_t begin = block - within % blocks_per_scale_;
  return {begin, std::min(block - within + blocks_per_group_, begin + blocks_per_scale_)};
}

size_t Int8Scales::offset(int64_t block, int64_t tile) const {
  return static_cast<size_t>((group_of(block).begin * num_tiles_ + tile) * simd::kInt8Channels);
}

void Int8Scales::set(size_t index, double bound) {
  if (bound < kSmallestBound) return;
  scales_[index] = static_cast<float>(bound / kLargestEntry);
  inverses_[index] = static_cast<float>(kLargestEntry / bound);
  if (!(bound <= kLargestBound)) usable_ = false;
}

}  // namespace reuse
