// What the loops over static tables are given; see static_kernels.cc.
#pragma once

#include <stdint.h>

namespace reuse {
namespace simd {

// Output channels of a tile of static tables: one cache line of int8 entries.
constexpr int64_t kStaticChannels = 64;

// The largest int8 entry: two of them fit a byte, also beside the bias of kStaticBias that makes low bytes unsigned.
constexpr int32_t kLargestStaticEntry = 63;
constexpr int32_t kStaticBias = 64;

// Rows of int8 entries whose sum fits an int16.
constexpr int64_t kMostStaticRows = 32767 / kLargestStaticEntry;

// Rows of tables start at multiples of this many bytes, in which offsets are counted: the largest that an address can
// be scaled by at no cost.
constexpr int64_t kOffsetUnit = 8;

// One block's table for a tile of output channels, and which row each vector has.
struct StaticBlock {
  const uint8_t* rows;
  const void* offsets;  // uint16 or uint32, in units of kOffsetUnit bytes; planes with the borders of the convolution
};

// Memory that is needed next and fetched meanwhile: `rows` rows of 2^line_bits cache lines, so many bytes apart. Each
// pixel of a stretch fetches its share of them, which is counted in units of 2^-kShareBits lines.
struct Fetched {
  const uint8_t* memory;
  int64_t stride;
  int line_bits;
  int64_t lines_per_pixel;  // 0 for nothing
};
constexpr int kShareBits = 16;

// Tables of blocks that are added together.
struct StaticBlocks {
  const StaticBlock* blocks;
  int64_t num_blocks;
  int64_t tap_bytes;  // between taps within a row
  bool wide;          // offsets are uint32
  Fetched tables;     // of those that are added next
  Fetched output;     // where the sums go
};

// A stretch of an output row.
struct StaticRow {
  int64_t first;  // of the first pixel's first tap: index in offsets
  int64_t width;  // of a plane
  int64_t kernel_h, kernel_w, dilation_h, dilation_w, stride_w;
  int64_t columns;  // pixels
};

// Sums of int8 entries: 32 words of both bytes and 32 of the high ones per pixel; between calls they wait in memory.
struct StaticWords {
  uint16_t* values;     // [pixels, kStaticChannels], or null: the sums begin and end with one call
  int64_t rows_before;  // that they hold; 0: what `values` holds is not read
  bool finish;          // whether they are added to the sums of float32; else they are kept
};

// Sums of float32, [pixels, stride].
struct StaticSums {
  float* values;
  int64_t stride;
  bool fresh;          // nothing has been added yet: what `values` holds is not read
  const float* scale;  // by channel: int8 sums are multiplied by it last; null: not yet
};

}  // namespace simd
}  // namespace reuse
