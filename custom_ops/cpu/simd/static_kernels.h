// What the loops over static tables are given; see static_kernels.cc.
#pragma once

#include <stdint.h>

namespace reuse {
namespace simd {

// Output channels of a tile of static tables: one cache line of int8 entries.
constexpr int64_t kStaticChannels = 64;

// Int8 entries of kTapsAtOnce neighbouring taps are added as bytes. The first of them has this bias where low bytes
// are, which makes low bytes of sums unsigned.
constexpr int32_t kStaticBias = 128;

// Rows of tables start at multiples of this many bytes, in which offsets are counted: the largest that an address can
// be scaled by at no cost.
constexpr int64_t kOffsetUnit = 8;

// One block's table for a tile of output channels, and which row each vector has.
struct StaticBlock {
  const uint8_t* rows;
  const void* offsets;  // uint16 or uint32, in units of kOffsetUnit bytes; planes with the borders of the convolution
  const void* before = nullptr;       // those of the last run, where sums are updated
  const uint64_t* changed = nullptr;  // a bit for each place of a row where they differ
};

// Cache lines of an output that are fetched while its sums are formed: 2^line_bits of each of 2^row_bits rows of each
// plane.
struct FetchedPlanes {
  const uint8_t* memory;
  int64_t lines;  // in all
  int line_bits, row_bits;
  int64_t row_bytes, plane_bytes;  // between the first lines of rows and planes
};

// Tables of blocks that are added together.
struct StaticBlocks {
  const StaticBlock* blocks;
  int64_t num_blocks;
  int64_t tap_bytes;           // between taps within a row
  bool wide;                   // offsets are uint32
  const uint8_t* next_tables;  // a share of those that are added next, which is fetched meanwhile
  int64_t next_lines;
  FetchedPlanes output;
};

// A rectangle of output pixels, and where what they read lies in the planes of offsets.
struct StaticPixels {
  int64_t first;  // of the first pixel's first tap
  int64_t width;  // of a plane
  int64_t kernel_h, kernel_w, dilation_h, dilation_w, stride_h, stride_w;
  int64_t rows, columns;
};

// The rectangle of places that they read.
static inline int64_t read_rows(const StaticPixels& p) {
  return (p.rows - 1) * p.stride_h + (p.kernel_h - 1) * p.dilation_h + 1;
}
static inline int64_t read_columns(const StaticPixels& p) {
  return (p.columns - 1) * p.stride_w + (p.kernel_w - 1) * p.dilation_w + 1;
}

// Sums of int8 entries: 32 words of both bytes and 32 of the high ones per pixel; between calls they wait in memory.
struct StaticWords {
  uint16_t* values;    // [pixels, kStaticChannels], or null: the sums begin and end with one call
  int64_t row_stride;  // words between rows of pixels
  int64_t sums;        // of neighbouring taps, in all, once these blocks' are added
  bool fresh;          // nothing has been added yet: what `values` holds is not read
  bool finish;         // whether they are added to the sums of float32
  bool keep;           // whether they are written back
};

// Places of a plane's row that a word of `changed` has bits of.
constexpr int64_t kMarkedPlaces = 64;

// The bits of the places in the word from place `first` on that are neither before `from` nor from `to` on.
static inline uint64_t marked(const uint64_t* row, int64_t first, int64_t from, int64_t to) {
  uint64_t bits = row[first / kMarkedPlaces];
  if (first < from) bits &= ~uint64_t{0} << (from - first);
  if (to - first < kMarkedPlaces) bits &= (uint64_t{1} << (to - first)) - 1;
  return bits;
}

// Calls body(place) for each of these places whose bit is set; and how many there are.
template <typename Body>
static inline void for_marked(const uint64_t* row, int64_t from, int64_t to, const Body& body) {
  for (int64_t first = from / kMarkedPlaces * kMarkedPlaces; first < to; first += kMarkedPlaces) {
    for (uint64_t bits = marked(row, first, from, to); bits != 0; bits &= bits - 1) {
      body(first + __builtin_ctzll(bits));
    }
  }
}
static inline int64_t count_marked(const uint64_t* row, int64_t from, int64_t to) {
  int64_t count = 0;
  for (int64_t first = from / kMarkedPlaces * kMarkedPlaces; first < to; first += kMarkedPlaces) {
    count += __builtin_popcountll(marked(row, first, from, to));
  }
  return count;
}

// Sums of float32, [pixels, stride].
struct StaticSums {
  float* values;
  int64_t stride, row_stride;  // between pixels and their rows
  bool fresh;                  // nothing has been added yet: what `values` holds is not read
  const float* scale;          // by channel: int8 sums are multiplied by it last; null: not yet
};

}  // namespace simd
}  // namespace reuse
