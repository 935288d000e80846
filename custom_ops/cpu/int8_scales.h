// Scales of int8 tables.
#pragma once

#include <cstdint>
#include <vector>

#include "reuse/operators.h"

namespace reuse {

// The scales of all tables of a run (docs/operators.md, Int8 tables): one per output channel and group of consecutive
// blocks. They come from norms, so tables are quantised while they are made and never exist in float32.
class Int8Scales {
 public:
  Int8Scales(const Blocking& blocking, const PackedWeights& weights, const Clusters& clusters);

  // Whether int8 tables can be used: no product can overflow, and the taps of one block fit an int16 sum.
  bool usable() const { return usable_; }
  // The blocks that share a block's scales.
  BlockRange group_of(int64_t block) const;
  // Scales of a tile's channels, and what to multiply products with; zero for channels that pad the tile.
  const float* scale(int64_t block, int64_t tile) const { return scales_.data() + offset(block, tile); }
  const float* inverse(int64_t block, int64_t tile) const { return inverses_.data() + offset(block, tile); }

 private:
  size_t offset(int64_t block, int64_t tile) const;
  void set(size_t index, double bound);

  int64_t blocks_per_group_, blocks_per_scale_, num_tiles_;
  bool usable_ = true;
  std::vector<float> scales_, inverses_;
};

}  // namespace reuse
