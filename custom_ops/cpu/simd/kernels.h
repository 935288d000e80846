// The innermost loops, compiled once per instruction set from the same source and chosen at run time.
//
// The translation units behind this table include nothing but this header and C headers: an inline function of the
// C++ library compiled for AVX-512 could otherwise replace the baseline's copy at link time.
#pragma once

#include <stdint.h>

namespace reuse {
namespace simd {

// Floats that gemm and gather handle at once; table tiles are padded to a multiple of it on every instruction set.
constexpr int64_t kLanes = 16;

struct GatherTile {
  const int32_t* ids;  // [V] of this block
  const float* table;  // first element of this tile of output channels
  int64_t row_stride;  // elements between table rows
  int64_t tap_stride;  // elements between taps within a row
  int64_t channels;    // output channels of the tile
  float* sums;         // [pixels, sums_stride], pixel-major
  int64_t sums_stride;
};

// One output row of the channel layout, and where its taps read.
struct TapRow {
  int64_t first_id;  // index in ids of column 0 of the image's row 0
  int64_t in_h, in_w, out_w;
  int64_t kernel_h, kernel_w;
  int64_t dilation_h, dilation_w, stride_w;
  int64_t top;   // input row of the first tap, may be negative
  int64_t left;  // input column of the first tap at output column 0, may be negative
};

struct Kernels {
  const char* name;
  // out[h * stride + p] = sum over l of values[l * stride + p] * projections[l * num_hashes + h], in order, no FMA.
  void (*project)(const float* values, int64_t stride, int64_t length, int64_t count, const float* projections,
                  int64_t num_hashes, float* out);
  // codes[p] = bits projected[h * stride + p] > thresholds[h].
  void (*sign_bits)(const float* projected, int64_t stride, int64_t num_hashes, int64_t count, const float* thresholds,
                    int64_t* codes);
  // codes[p] = leaf that values[coordinate * stride + p] reaches in a tree of that depth.
  void (*tree_leaves)(const float* values, int64_t stride, int64_t count, const int32_t* coordinates,
                      const float* thresholds, int64_t depth, int64_t* codes);
  // codes[p] = fold of the bits of values[l * stride + p].
  void (*fingerprint)(const float* values, int64_t stride, int64_t length, int64_t count, int64_t* codes);
  // finite[p] = 1 if all elements of vector p are finite, else 0.
  void (*all_finite)(const float* values, int64_t stride, int64_t length, int64_t count, uint8_t* finite);
  // out[r * out_stride + n] = sum over d of a[r * depth + d] * b[d * b_stride + n], for n < width. b's rows are
  // readable up to the next multiple of kLanes.
  void (*gemm)(const float* a, int64_t rows, int64_t depth, const float* b, int64_t b_stride, int64_t width, float* out,
               int64_t out_stride);
  // Adds to each of `pixels` sums the table row of its id (patch layout); ids and sums start at the first pixel.
  void (*add_rows)(const GatherTile& tile, int64_t pixels);
  // Adds to each pixel of an output row the table rows of its taps (channel layout).
  void (*add_taps)(const GatherTile& tile, const TapRow& row);
};

// The kernels of the best instruction set that this machine has, or of the one named by the environment variable
// REUSE_ISA (baseline, avx2, avx512), if the machine has it.
const Kernels& kernels();

}  // namespace simd
}  // namespace reuse
