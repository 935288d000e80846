// The vectors that output pixels of QLinearReuseConv see, and which pixels see the same.
#pragma once

#include "byte_vectors.h"

namespace reuse {

class WindowSource;

// Distinct windows of one group: output pixels whose vectors are equal have equal outputs. A window is the ids of its
// vectors, int32, in the order (block, tap), and is known by its first output pixel: ids are read where they are
// needed.
class ByteWindows {
 public:
  ByteWindows(Workspace& workspace, const Blocking& blocking, const ByteVectors& vectors, int64_t group);
  ByteWindows(const ByteWindows&) = delete;
  ByteWindows& operator=(const ByteWindows&) = delete;
  ~ByteWindows();

  int64_t count() const { return distinct_.count(); }
  int64_t stride() const { return stride_; }  // elements between windows
  // Writes windows `first` ...: [count, stride], which may leave what is behind a window's ids.
  void ids(int64_t first, int64_t count, int32_t* to) const;
  // Tells where the vectors of windows `first` ... are: [count, blocks of the group, taps per block].
  void read(int64_t first, int64_t count, Buffer<uint8_t>& room, const uint8_t** to) const;
  // The first output pixel [N, Oh, Ow] of each window.
  const int32_t* places() const { return distinct_.firsts(); }
  // Gives the other pixels what has been computed for the first one of their window: `bytes` of y [N, Oh, Ow, stride].
  void copy(Workspace& workspace, uint8_t* y, int64_t bytes, int64_t stride) const;

 private:
  const ByteVectors& vectors_;
  int64_t first_block_, blocks_, taps_, stride_;
  std::unique_ptr<const WindowSource> source_;
  DistinctRows distinct_;
  Buffer<int32_t> windows_;  // of all pixels
};

}  // namespace reuse
