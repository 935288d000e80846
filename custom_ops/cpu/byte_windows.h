// The vectors that output pixels of QLinearReuseConv see, and which pixels see the same.
#pragma once

#include "byte_vectors.h"

namespace reuse {

// Distinct windows of one group: output pixels whose vectors are equal have equal outputs. A window is the ids of its
// vectors, int32, in the order (block, tap), filled up with zeros.
class ByteWindows {
 public:
  ByteWindows(Workspace& workspace, const Blocking& blocking, const ByteVectors& vectors, int64_t group);

  int64_t count() const { return static_cast<int64_t>(places_.size()); }
  int64_t stride() const { return stride_; }  // elements between windows
  const int32_t* ids() const { return reinterpret_cast<const int32_t*>(rows_.rows()); }
  // Tells where the vectors of windows `first` ... are, rows of row_bytes: [count, blocks of the group, taps per
  // block].
  void read(const ByteVectors& vectors, int64_t row_bytes, int64_t first, int64_t count, const uint8_t** to) const;
  // The first output pixel [N, Oh, Ow] of each window.
  const int32_t* places() const { return places_.data(); }
  // Gives the other pixels what has been computed for the first one of their window: `bytes` of y [N, Oh, Ow, stride].
  void copy(Workspace& workspace, uint8_t* y, int64_t bytes, int64_t stride) const;

 private:
  int64_t first_block_, blocks_, taps_, stride_;
  DistinctRows rows_;
  Buffer<int32_t> windows_;  // of all pixels
  Buffer<int32_t> places_;
};

}  // namespace reuse
