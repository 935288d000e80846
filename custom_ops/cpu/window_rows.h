// Reads the vectors of the patch layout as rows. Where load_tile copies each element of a tile by itself, this copies
// input rows once to pixel-major memory, in which the taps of a kernel row are neighbours, and whole stretches of them
// from there.
#pragma once

#include <cstdint>
#include <vector>

#include "reuse/hash_family.h"
#include "reuse/runtime.h"
#include "simd/kernels.h"

namespace reuse {

// Reads one block's vectors, fastest in their order.
class WindowRows {
 public:
  WindowRows(Allocator& allocator, const Blocking& blocking, const float* x, int64_t block);

  // Vectors first .. first+count-1 (at most kTileVectors), valid until the next call; zeros beyond the block's length.
  Rows read(int64_t first, int64_t count);

  // Whether all input rows that the last call read from are finite; then its vectors are, too.
  bool all_finite() const { return all_finite_; }

 private:
  // An input row's channels in pixel-major memory.
  struct Band {
    int64_t image = -1, row = -1;
    bool finite = true;
  };
  // Neighbouring elements of the block that one kernel row reads.
  struct Stretch {
    int64_t tap_row, offset;  // where the first window of an output row reads, in floats from the band's begin
    int64_t element, count;
  };

  void find_stretches(int64_t start, int64_t length);
  // Returns the band of an input row, reading it unless it is there.
  const float* band(int64_t image, int64_t row);
  void fill_band(int64_t image, int64_t row, float* values);

  const Blocking& blocking_;
  const float* x_;
  int64_t first_channel_, channels_;  // that bands hold
  int64_t band_columns_, band_floats_;
  std::vector<Band> bands_;
  std::vector<Stretch> stretches_;
  std::vector<simd::Piece> pieces_;
  Buffer<float> memory_, zeros_, rows_;
  int64_t stride_;
  bool all_finite_ = true;
};

}  // namespace reuse
