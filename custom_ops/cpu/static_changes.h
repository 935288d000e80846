// What an incremental static layer keeps from run to run, and which of its vectors have another row than in the last
// one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "heuristics.h"
#include "last_run.h"
#include "pixel_tiles.h"
#include "reuse/runtime.h"
#include "reuse/state.h"
#include "static_planes.h"
#include "static_steps.h"

namespace reuse {

// What becomes of sums of the last run.
enum class KeptSums : uint8_t { kStay, kAreUpdated, kAreMadeAnew };

class StaticChanges {
 public:
  // Nothing is kept where `state` is null, or where it gives this run nothing (LastRunHold). `wide`: offsets have 32
  // bits.
  StaticChanges(ReuseState* state, Workspace& workspace, const StaticPlanes& planes, const PixelTiles& pixels,
                const StaticSteps& steps, int64_t channel_tiles, bool wide);

  bool sums_are_kept() const { return last_ != nullptr; }
  // Where the planes of this run's offsets go, if sums are kept.
  void* offsets() { return last_->next.data(); }
  // Called once they are there: marks the vectors that have another row than in the last run, and decides for parts of
  // each tile of pixels.
  void compare();
  // Whether there is a last run that they were compared with.
  bool are_known() const { return changed_.size() > 0; }

  const uint8_t* last_offsets(int64_t block, int64_t image) const {
    return last_->input.data() + planes_.start(block, image) * offset_bytes_;
  }
  // The marks of a block's vectors by row of its plane: row_words() words, a bit for each place.
  const uint64_t* marks(int64_t block, int64_t image) const { return changed_.data() + first_mark(block, image); }
  int64_t row_words() const { return row_words_; }

  // The kept sums of a tile of pixels, for a step's channels and the blocks of a flush.
  uint16_t* words(const StaticStep& step, int64_t flush, const PixelTile& tile) const;

  // Calls body(part, sums) for parts of a pixel tile, as large as can be, that the same becomes of.
  template <typename Body>
  void for_parts(int64_t index, const Body& body) const {
    const PixelTile tile = pixels_[index];
    const int64_t count = (tile.columns + kPartColumns - 1) / kPartColumns;
    const KeptSums* own = sums_of_.data() + index * parts_per_tile_;
    for (int64_t begin = 0, end = 0; begin < count; begin = end) {
      while (end < count && own[end] == own[begin]) ++end;
      body(part_of(tile, begin, end), own[begin]);
    }
  }

  // Leaves to the next run what this one has made of the sums, and counts that.
  void leave(RunStatistics& statistics);

 private:
  // Parts of a tile, side by side.
  static PixelTile part_of(const PixelTile& tile, int64_t begin, int64_t end) {
    const int64_t from = begin * kPartColumns, to = std::min(end * kPartColumns, tile.columns);
    return {tile.image, tile.row, tile.rows, tile.column + from, to - from};
  }
  // Behind those of all blocks, there are marks where any of them has one.
  int64_t first_mark(int64_t block, int64_t image) const {
    return (block * planes_.batch + image) * planes_.height * row_words_;
  }
  LastRunShape shape() const;
  void mark_row(int64_t image, int64_t row);
  KeptSums sums_of(const PixelTile& part) const;
  double count(RunStatistics& statistics) const;

  Parallel& parallel_;
  const StaticPlanes& planes_;
  const PixelTiles& pixels_;
  const int64_t channel_tiles_, num_flushes_, offset_bytes_;
  const int64_t row_words_;   // words of `changed_` for a row of a plane
  Buffer<uint64_t> changed_;  // by plane and row, a bit for each place
  const int64_t parts_per_tile_;
  std::vector<KeptSums> sums_of_;  // by tile of pixels and its parts
  LastRunHold hold_;
  LastRun* const last_;
};

}  // namespace reuse
