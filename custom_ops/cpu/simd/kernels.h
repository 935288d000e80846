// The innermost loops, compiled once per instruction set from the same source and chosen at run time.
//
// The translation units behind this table include nothing but this header, one without functions and C headers: an
// inline function of the C++ library compiled for AVX-512 could otherwise replace the baseline's copy at link time, and
// be run by machines that lack it. For the same reason functions of shared headers are static here.
// tests/check_symbols.cmake looks for others.
#pragma once

#include <stdint.h>

#include "quantised_kernels.h"
#include "reuse/activation.h"
#include "static_kernels.h"

namespace reuse {
namespace simd {

// Floats that gemm and gather handle at once; table tiles are padded to a multiple of it on every instruction set.
constexpr int64_t kLanes = 16;

// Bytes of an int8 table per tap: one cache line of output channels. Byte 4 * j + r belongs to channel 16 * r + j, so
// that widening needs shifts only; bytes with even r are biased by 128 (see gather_kernels.cc).
constexpr int64_t kInt8Channels = 64;

// Rows of an int8 table whose sum fits an int16: 258 * 127 <= 32767.
constexpr int64_t kMostInt8Rows = 32767 / 127;

// Elements of a neuron vector that add_members takes at once, and the width of its sums for `length` of them.
constexpr int64_t kMemberStrip = 16;
static constexpr inline int64_t sum_width(int64_t length) { return length <= 8 ? 8 : kMemberStrip; }

// One block's part of a table, and the clusters of its vectors.
struct BlockTable {
  const int32_t* ids;  // [V]
  const void* rows;    // first element of the tile of output channels
};

// Tables of consecutive blocks for one tile of output channels.
struct Tables {
  const BlockTable* blocks;
  int64_t num_blocks;
  int64_t row_stride;  // elements between table rows
  int64_t tap_stride;  // elements between taps within a row
  int64_t channels;    // output channels of the tile
};

// A stretch of one output row, and where its taps read. The patch layout is a 1x1 kernel on its own output.
struct TapRow {
  int64_t first_id;  // index in ids of column 0 of the image's row 0
  int64_t in_h, in_w;
  int64_t kernel_h, kernel_w;
  int64_t dilation_h, dilation_w, stride_w;
  int64_t top;      // input row of the first tap, may be negative
  int64_t left;     // input column of the first tap at the first pixel, may be negative
  int64_t columns;  // pixels of the stretch
};

// Sums of a tile, pixel-major.
struct Sums {
  float* values;  // [pixels, stride]
  int64_t stride;
  bool fresh;  // nothing has been added yet: what `values` holds is not read
};

// Sums of rows of int8 tables between calls with tables of the same scales, each as kWordSums words.
struct WordSums {
  uint16_t* values;       // [pixels, kWordSums], or null: the sums begin and end with one call
  int64_t blocks_before;  // blocks whose rows they hold; 0: what `values` holds is not read
  bool finish;            // whether they are turned into sums of float32; else they are kept
};
constexpr int64_t kWordSums = kInt8Channels;  // 32 of both bytes and 32 of the high ones

// Elements that neighbouring vectors read: `count` of vector p from from[p * step] on go to element `to` and following.
struct Piece {
  const float* from;
  int64_t step, to, count;
};

// Four levels of a binary tree: node 1 is the root, 2 n and 2 n + 1 are the children of node n. Entry 0 is not used.
struct Subtree {
  int32_t coordinates[16];
  float thresholds[16];
};

// Levels of the first subtree of a tree of `depth` levels, 1 to 4: all below it have four.
static constexpr inline int64_t first_levels(int64_t depth) { return ((depth - 1) & 3) + 1; }

// A tree of family `learned` whose thresholds lie on a grid by coordinate: first + k * step with k = 0 ... 254, `step`
// a power of two. A value is above such a threshold exactly if its number of steps above `first`, rounded up, is more
// than k, so that bytes are enough to walk the tree with. k = 255 is the threshold that no value exceeds.

// Levels of a tree that are walked down by many vectors at once, and coordinates that its nodes may compare.
constexpr int64_t kByteLevels = 10, kMostByteRows = 32;

// The grid of one coordinate.
struct ByteGrid {
  int32_t coordinate;
  float first;
  float shift;   // 2^23 * step - first: the low bits of a sum with it count steps
  int32_t zero;  // the bits of 2^23 * step
};

// Nodes' choices among rows are kept by bits: all of one plane, all first bits for one, have a place in a byte for each
// of the nodes below one of the fourth level, as far as these are eight; then they have several bytes. That leaves room
// for so many planes in a byte.
static constexpr inline int planes_per_byte(int64_t level) {
  return level <= 4 ? 8 : level >= 7 ? 1 : 8 >> (level - 4);
}
// And a plane has so many bytes.
static constexpr inline int bytes_per_plane(int64_t level) { return level <= 7 ? 1 : 1 << (level - 7); }

// One level of a tree. Tables have an entry for each node of the fourth level (or of the level itself, above it), whose
// index has the direction that leads there from level i in bit i: 1 is right.
struct ByteLevel {
  const uint8_t* thresholds;  // [nodes below one of the fourth level, 16]
  // [planes / planes_per_byte, bytes_per_plane, 16]: plane p of node n below is bit n * planes_per_byte + p %
  // planes_per_byte. Of several bytes, n / bytes_per_plane is the bit and the rest the byte.
  const uint8_t* planes;
  const uint16_t* rows;  // [2^num_planes]: where the bytes of a coordinate stand
  int64_t num_planes;    // 0 to 5
};

struct ByteTree {
  int64_t depth, num_rows;
  const ByteGrid* grids;  // [num_rows], by ascending coordinate
  // [L, num_rows], or null: what vectors are multiplied with first. Coordinates are those of the product.
  const float* rotation;
  ByteLevel levels[kByteLevels];
  // Low and high bytes of the first leaf (of the first node on level kByteLevels) below a node of the fourth level, and
  // of what going right on a level below adds to it, four times.
  uint8_t leaves[2][16];
  int32_t bits[2][kByteLevels];
  const uint16_t* deep;  // the nodes from level kByteLevels on, level by level: threshold + 256 * row
};

// Vectors of bytes: element l of vector p is values[p * stride + l], taken as an unsigned number once `flip` is xored
// to it, or `padding` beyond the length.
struct ByteVectors {
  const uint8_t* values;
  int64_t stride, length, count;
  int64_t readable;  // bytes that can be read from `values` on
  uint8_t flip, padding;
};

// Where a tile of output channels goes, and what is done on the way.
struct OutputTile {
  float* y;  // first pixel of the tile's first channel
  int64_t plane;
  int64_t channels;
  const float* bias;  // of the tile's first channel, or null
  Activation activation;
  float low, high;         // Clip; LeakyRelu's slope is `low`
  int64_t pixel_step = 1;  // elements between neighbouring pixels; above 1 channels are neighbours, and `plane` is 1
};

// A row of pooling windows. `x` is column 0 of the first input row that the windows read; y is [out_w, channels].
struct PoolRow {
  const float* x;
  int64_t rows;  // input rows that the windows read
  int64_t in_w, channels;
  int64_t kernel_w, stride_w;
  int64_t left;  // first column of the first window, may be negative
  int64_t out_w;
  bool average;     // else the maximum
  int64_t divisor;  // of an average; 0: the number of elements in the window that are not padding
};

// Sums of output deltas by cluster of one block: the transpose of a BlockTable.
struct SumTable {
  const int32_t* ids;  // [V]
  float* rows;         // first element of the strip of output channels
  int64_t row_stride;  // elements between rows
  int64_t tap_stride;  // elements between taps within a row
};

// Neighbouring elements of a row of the unfolded input that are neighbours in a pixel-major input, too: elements from
// `from` on go to `to`, counted from the window's first pixel.
struct FoldPiece {
  int64_t from, to, count;
};

// Extensions of x86 that the compiler may have used in a table's functions.
enum Extension : uint32_t {
  kAvx2 = 1 << 0,
  kFma = 1 << 1,
  kF16c = 1 << 2,
  kAvx512F = 1 << 3,
  kAvx512Bw = 1 << 4,
  kAvx512Dq = 1 << 5,
  kAvx512Vl = 1 << 6,
  kAvx512Vnni = 1 << 7
};

// Tiles of values, and projections of them, have rows that are readable and writable up to the next multiple of
// 2 * kLanes vectors; what lies beyond `count` is not used.
struct Kernels {
  const char* name;
  uint32_t extensions;  // that a machine must have to run the functions
  // out[h * out_stride + p] = sum over l of values[l * stride + p] * projections[l * num_hashes + h], in order, no FMA.
  void (*project)(const float* values, int64_t stride, int64_t length, int64_t count, const float* projections,
                  int64_t num_hashes, float* out, int64_t out_stride);
  // codes[p] = bits projected[h * stride + p] > thresholds[h].
  void (*sign_bits)(const float* projected, int64_t stride, int64_t num_hashes, int64_t count, const float* thresholds,
                    int64_t* codes);
  // codes[p] = leaf that values[coordinate * stride + p] reaches in a tree of that depth.
  void (*tree_leaves)(const float* values, int64_t stride, int64_t count, const int32_t* coordinates,
                      const float* thresholds, int64_t depth, int64_t* codes);
  // codes[p] = leaf that values[p * stride + coordinate], coordinate < length, reaches in a tree of `depth` levels:
  // those below a multiple of four levels, counted from the leaves, are one subtree per node, level by level; the first
  // subtree has first_levels(depth).
  void (*subtree_leaves)(const float* values, int64_t stride, int64_t length, int64_t count, const Subtree* subtrees,
                         int64_t depth, int64_t* codes);
  // Whether subtree_leaves compares all nodes of a subtree at once for rows of up to two vectors of lanes, which makes
  // up for bringing tiles into rows.
  bool whole_subtrees;
  // codes[p] = leaf that values[l * stride + p], l < length, reaches in a tree, as integers of 1 (up to 8 levels), 2 or
  // 8 bytes. Nothing is read beyond `count`, unless the tree has a rotation; then `turned` is a tile for num_rows
  // elements. Returns whether all elements are finite. Null where it would be no faster than the others.
  bool (*byte_leaves)(const float* values, int64_t stride, int64_t length, int64_t count, const ByteTree& tree,
                      float* turned, int64_t code_bytes, void* codes);
  // The same of bytes, all of which the tree's rows are, in their order. Null like the other.
  void (*leaves_of_bytes)(const ByteVectors& vectors, const ByteTree& tree, int64_t code_bytes, void* codes);
  // tile[l * 64 + p] = (element l of vector p - padding) * scale, for l < length and p < count, at most 64. Null
  // likewise.
  void (*dequantise)(const ByteVectors& vectors, float scale, float* tile);
  // rows[p * row_stride + l] = values[l * stride + p] for p < count, l < length; row_stride is a multiple of kLanes,
  // and zeros follow. Rows are writable up to the next multiple of kLanes vectors.
  void (*tile_rows)(const float* values, int64_t stride, int64_t length, int64_t count, float* rows,
                    int64_t row_stride);
  // codes[p] = fold of the bits of values[l * stride + p].
  void (*fingerprint)(const float* values, int64_t stride, int64_t length, int64_t count, int64_t* codes);
  // finite[p] = 1 if all elements of vector p are finite, else 0.
  void (*all_finite)(const float* values, int64_t stride, int64_t length, int64_t count, uint8_t* finite);
  // The same where element l of vector p is values[p * stride + l].
  void (*all_finite_rows)(const float* values, int64_t stride, int64_t length, int64_t count, uint8_t* finite);
  // out[l * out_stride + p] = values[p * stride + l], for l < length and p < count rounded up to whole lanes;
  // `readable` floats can be read from `values` on.
  void (*transpose_rows)(const float* values, int64_t stride, int64_t length, int64_t count, int64_t readable,
                         float* out, int64_t out_stride);
  // sums[ids[p] * width + l] += values[l * stride + p] for p < count, l < length, in the order of p; width is
  // sum_width(length).
  void (*add_members)(const float* values, int64_t stride, int64_t length, int64_t count, const int32_t* ids,
                      double* sums);
  // The same where element l of vector p is values[p * stride + l], with vectors far apart.
  void (*add_strips)(const float* values, int64_t stride, int64_t length, int64_t count, const int32_t* ids,
                     double* sums);
  // The same for whole vectors in the cache, and sums of `width` elements, a multiple of 8, per cluster.
  void (*add_rows)(const float* values, int64_t stride, int64_t count, const int32_t* ids, double* sums, int64_t width);
  // means[c * stride + l] = sums[c * width + l] / members[c] for l < length, at most `width`, a multiple of 8.
  void (*write_means)(const double* sums, int64_t width, const int32_t* members, int64_t clusters, int64_t length,
                      float* means, int64_t stride);
  // Puts `count` vectors of `stride` elements, a multiple of kLanes, together from pieces in the order of `to`; zeros
  // where there is none. Pieces are readable kLanes - 1 elements beyond both ends.
  void (*copy_pieces)(const Piece* pieces, int64_t num_pieces, int64_t count, float* rows, int64_t stride);
  // out[r * out_stride + n] = sum over d of a[r * depth + d] * panel[n / kLanes][d][n % kLanes], for n < width; strips
  // of kLanes columns are `step` floats apart.
  void (*gemm)(const float* a, int64_t rows, int64_t depth, const float* panel, int64_t step, int64_t width, float* out,
               int64_t out_stride);
  // The same product, each element scaled by inverse[n % kInt8Channels], rounded to the nearest integer (ties to even)
  // and written as bytes in the order of kInt8Channels; width is a multiple of that. |results| <= 127.
  void (*gemm_int8)(const float* a, int64_t rows, int64_t depth, const float* panel, int64_t width,
                    const float* inverse, uint8_t* out, int64_t out_stride);
  // Adds to each pixel's sums the table rows of its taps in all blocks. Lanes beyond `channels` up to the next
  // multiple of kLanes become zero or stay what they were.
  void (*add_taps)(const Tables& tables, const TapRow& row, const Sums& sums);
  // The same for int8 tables of kInt8Channels channels, times scale[channel] once all rows of that scale, at most
  // kMostInt8Rows per pixel, are added up in `words`.
  void (*add_taps_int8)(const Tables& tables, const TapRow& row, const float* scale, const WordSums& words,
                        const Sums& sums);
  // Adds to each of the pixels the rows of all taps and blocks, of kStaticChannels int8 entries.
  void (*add_static_int8)(const StaticBlocks& tables, const StaticPixels& pixels, const StaticWords& words,
                          const StaticSums& sums);
  // The same for float32 tables of `channels` channels, a multiple of kLanes, in the order of blocks and taps.
  void (*add_static_float)(const StaticBlocks& tables, const StaticPixels& pixels, int64_t channels,
                           const StaticSums& sums);
  // Brings words that hold the sums of the last run up to date: where a vector has another row than before, its taps'
  // entries of that one are taken away, and those of its own are added. `changed` has `row_words` words for a row.
  void (*update_static_int8)(const StaticBlocks& tables, const StaticPixels& pixels, int64_t row_words,
                             const StaticWords& words);
  // Adds words to the sums of float32, and fetches meanwhile where these go.
  void (*finish_static_int8)(const FetchedPlanes& output, const StaticPixels& pixels, const StaticWords& words,
                             const StaticSums& sums);
  // Writes a bit for each of `count` offsets that is another than before, and zeros up to the end of the last word.
  void (*mark_changes)(const void* before, const void* now, bool wide, int64_t count, uint64_t* changed);
  // Writes `pixels` sums to the output with bias and activation, transposed where pixels are neighbours there.
  void (*write_output)(const Sums& sums, int64_t pixels, const OutputTile& output);
  // The same where one table row is a pixel's whole sum: that of ids[p] in `rows`, whose rows are `stride` apart and
  // readable up to the next multiple of kLanes channels.
  void (*write_rows)(const float* rows, int64_t stride, const int32_t* ids, int64_t pixels, const OutputTile& output);
  // Pools one row of windows of a pixel-major input.
  void (*pool_row)(const PoolRow& row, float* y);
  // The transpose of add_taps for one block: adds values[x * stride + c], c < channels (a multiple of kLanes), of each
  // pixel x of the stretch to the rows of its taps.
  void (*scatter_taps)(const SumTable& table, const TapRow& row, const float* values, int64_t stride, int64_t channels);
  // out[p * stride + c] = planes[c * plane + p] for p < pixels, c < channels; zeros from there to the next multiple of
  // kLanes.
  void (*pack_pixels)(const float* planes, int64_t plane, int64_t channels, int64_t pixels, float* out, int64_t stride);
  // windows[p * step + to + l] += rows[ids[p] * stride + from + l] for p < count and all pieces {from, to, count}.
  void (*fold_rows)(const float* rows, int64_t stride, const int32_t* ids, int64_t count, const FoldPiece* pieces,
                    int64_t num_pieces, float* windows, int64_t step);
  // out[r * out_stride + n] = start[n] + sum over d of rows[r][d] * weights[d][n], modulo 2^32.
  void (*multiply_bytes)(const ByteProduct& product, int32_t* out, int64_t out_stride);
  // out[r * out_stride + n] -= sum of rows[r] * zero_points[n % channels] for all columns n of the product's strips,
  // modulo 2^32; `channels` is a multiple of kLanes.
  void (*subtract_zero_points)(const ByteProduct& product, const int32_t* zero_points, int64_t channels, int32_t* out,
                               int64_t out_stride);
  // largest[n] = the largest of largest[n] and |products[r * width + n]|; width is a multiple of kStaticChannels.
  void (*keep_largest)(const int32_t* products, int64_t count, int64_t width, float* largest);
  // Makes products [taps, kStaticChannels] entries of a static table's row: each times inverse[channel], rounded to the
  // nearest integer (ties to even). Kernel rows have `columns` taps.
  void (*write_entries)(const int32_t* products, int64_t taps, int64_t columns, const float* inverse, uint8_t* row);
  // sums[w * channels + c] = start[c] (that of sums, if start is null) + the table rows of window w's ids [w * stride],
  // modulo 2^32.
  void (*add_windows)(const WindowTables& tables, const int32_t* ids, int64_t stride, int64_t windows,
                      const int32_t* start, int32_t* sums);
  // y[places[w] * y_stride + c] = requantised sums[w * stride + c] for c < channels.
  void (*write_bytes)(const int32_t* sums, int64_t stride, int64_t windows, int64_t channels, const Requantisation& how,
                      const int32_t* places, uint8_t* y, int64_t y_stride);
  // y[p * y_stride + c] = (sums[p * stride + c] + bias[c]) * inverse as a byte, each rounded, for c < channels.
  void (*write_quantised)(const float* sums, int64_t stride, int64_t pixels, int64_t channels, const float* bias,
                          float inverse, const ByteLimits& limits, uint8_t* y, int64_t y_stride);
  // The same as write_bytes with float32(sum) * scales[c] + bias[c], each rounded, in place of bytes.
  void (*write_floats)(const int32_t* sums, int64_t stride, int64_t windows, int64_t channels, const float* scales,
                       const float* bias, const int32_t* places, float* y, int64_t y_stride);
};

// The kernels of the instruction set that REUSE_ISA of the environment and the machine decide on: see choose_kernels.
const Kernels& kernels();

// The product of bytes by instructions that not all processors of the chosen set have, or that of kernels().
using MultiplyBytes = void (*)(const ByteProduct& product, int32_t* out, int64_t out_stride);
MultiplyBytes multiply_bytes();

// Returns the table named `wanted` (see reuse/isa.h) if `extensions` are enough for it, else the one that all machines
// of the kind can run; without a name the best that they are enough for. Throws std::invalid_argument for another name.
const Kernels& choose_kernels(const char* wanted, uint32_t extensions);
uint32_t machine_extensions();

}  // namespace simd
}  // namespace reuse
