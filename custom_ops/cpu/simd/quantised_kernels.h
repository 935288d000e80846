// What the loops over bytes of quantised convolutions are given; see quantised_kernels.cc.
#pragma once

#include <stdint.h>

namespace reuse {
namespace simd {

// Vectors that are packed at once.
constexpr int64_t kPackedPixels = 64;

// Bytes of one pixel after the other become rows.
struct BytePlanes {
  const uint8_t* values;  // [channels, plane], kPackedPixels of each readable
  int64_t plane;
  int64_t channels;
  uint8_t flip;  // what bytes are to be xored with
};

// Vectors and the weights that they are multiplied with.
struct ByteProduct {
  const uint8_t* rows;  // [count, row_bytes]
  int64_t count, row_bytes;
  const int8_t* panel;   // strips of kLanes columns, each [row_bytes / 4, kLanes, 4]
  int64_t strip_step;    // bytes between strips
  int64_t strips;        // of columns
  const int32_t* start;  // what a column's sums begin with: those of a strip are neighbours
  int64_t start_step;    // elements between those of strips
};

// How sums become bytes.
struct Requantisation {
  const float* scales;  // by channel
  float low, high;      // limits before the zero point is added
  int32_t zero_point;
};

}  // namespace simd
}  // namespace reuse
