// In which order the tables of a static layer are added: those at once that stay in the cache, and of int8 entries as
// many as sums of 16 bits hold.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "heuristics.h"
#include "reuse/geometry.h"
#include "reuse/static_entries.h"

namespace reuse {

// What is added at once: the tables of some blocks of a group for a tile of its channels.
struct StaticStep {
  int64_t group, tile;
  BlockRange blocks;
  BlockRange flush;  // blocks around them whose rows an int16 can sum
  bool last;         // of the group, which finishes a flush, too

  bool finishes() const { return blocks.end == flush.end; }
};

class StaticSteps {
 public:
  template <typename Tables>
  StaticSteps(const Blocking& blocking, const Tables& tables)
      : flush_blocks_(tables.are_int8() ? kMostTapSums / tap_sums(blocking) : blocking.blocks_per_group),
        num_flushes_((blocking.blocks_per_group + flush_blocks_ - 1) / flush_blocks_) {
    cut(blocking, tables.num_tiles(), tables.block_bytes());
  }

  int64_t count() const { return static_cast<int64_t>(steps_.size()); }
  const StaticStep& operator[](int64_t index) const { return steps_[static_cast<size_t>(index)]; }
  // Blocks whose rows are summed before these sums are added to others, and how often a group has that.
  int64_t flush_blocks() const { return flush_blocks_; }
  int64_t num_flushes() const { return num_flushes_; }

 private:
  void cut(const Blocking& blocking, int64_t num_tiles, int64_t bytes) {
    const int64_t per_group = blocking.blocks_per_group;
    const int64_t set_bytes = choose_static_tables(blocking.geometry.rows(), per_group * bytes);
    const int64_t at_once = std::max<int64_t>(1, set_bytes / bytes);
    for (int64_t group = 0; group < blocking.geometry.attributes.group; ++group) {
      const BlockRange all{group * per_group, (group + 1) * per_group};
      for (int64_t tile = 0; tile < num_tiles; ++tile) {
        for (int64_t flush = all.begin; flush < all.end; flush += flush_blocks_) {
          const BlockRange flushed{flush, std::min(all.end, flush + flush_blocks_)};
          for (int64_t begin = flush; begin < flushed.end; begin += at_once) {
            const int64_t end = std::min(flushed.end, begin + at_once);
            steps_.push_back({group, tile, {begin, end}, flushed, end == all.end});
          }
        }
      }
    }
  }

  int64_t flush_blocks_, num_flushes_;
  std::vector<StaticStep> steps_;
};

}  // namespace reuse
