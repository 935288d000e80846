// What the loops over bytes of quantised convolutions are given; see quantised_kernels.cc.
#pragma once

#include <stdint.h>

namespace reuse {
namespace simd {

// Rows of bytes and the weights that they are multiplied with. A row is one vector or some, each anywhere in memory.
struct ByteProduct {
  const uint8_t* const* rows;  // where its vectors are: [count, vectors]
  int64_t count, vectors, vector_bytes;
  const int8_t* panel;   // strips of kLanes columns, each [vector_bytes / 4, kLanes, 4]
  int64_t vector_step;   // bytes between the strips of a row's vectors
  int64_t strip_step;    // bytes between strips
  int64_t strips;        // of columns
  const int32_t* start;  // what a column's sums begin with: those of a strip are neighbours
  int64_t start_step;    // elements between those of strips
};

// Tables that rows are added from: of each the one that an id of a window names.
struct WindowTables {
  const int32_t* const* tables;
  int64_t count;
  int64_t row_stride;  // elements between table rows
  int64_t channels;    // a multiple of kLanes
};

// What bytes hold: limits before the zero point is added, and that.
struct ByteLimits {
  float low, high;
  int32_t zero_point;
};

// How sums become bytes.
struct Requantisation {
  const float* scales;  // by channel
  ByteLimits limits;
};

}  // namespace simd
}  // namespace reuse
