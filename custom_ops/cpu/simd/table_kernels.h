// Declarations shared by the loops over tables and the table of kernels; REUSE_TARGET is the instruction set's
// namespace.
#pragma once

#include "kernels.h"

namespace reuse {
namespace simd {
namespace REUSE_TARGET {
void add_members(const float* values, int64_t stride, int64_t length, int64_t count, const int32_t* ids, double* sums);
void add_rows(const float* values, int64_t stride, int64_t count, const int32_t* ids, double* sums, int64_t width);
void write_means(const double* sums, int64_t width, const int32_t* members, int64_t clusters, int64_t length,
                 float* means, int64_t stride);
void copy_pieces(const Piece* pieces, int64_t num_pieces, int64_t count, float* rows, int64_t stride);
void transpose_rows(const float* values, int64_t stride, int64_t length, int64_t count, int64_t readable, float* out,
                    int64_t out_stride);
void add_strips(const float* values, int64_t stride, int64_t length, int64_t count, const int32_t* ids, double* sums);
void gemm(const float* a, int64_t rows, int64_t depth, const float* panel, int64_t step, int64_t width, float* out,
          int64_t out_stride);
void gemm_int8(const float* a, int64_t rows, int64_t depth, const float* panel, int64_t width, const float* inverse,
               uint8_t* out, int64_t out_stride);
void add_taps(const Tables& tables, const TapRow& row, const Sums& sums);
void add_taps_int8(const Tables& tables, const TapRow& row, const float* scale, const WordSums& words,
                   const Sums& sums);
void add_static_int8(const StaticBlocks& tables, const StaticPixels& pixels, const StaticWords& words,
                     const StaticSums& sums);
void update_static_int8(const StaticBlocks& tables, const StaticPixels& pixels, int64_t row_words,
                        const StaticWords& words);
void finish_static_int8(const FetchedPlanes& output, const StaticPixels& pixels, const StaticWords& words,
                        const StaticSums& sums);
void mark_changes(const void* before, const void* now, bool wide, int64_t count, uint64_t* changed);
void add_static_float(const StaticBlocks& tables, const StaticPixels& pixels, int64_t channels, const StaticSums& sums);
void write_output(const Sums& sums, int64_t pixels, const OutputTile& output);
void write_rows(const float* rows, int64_t stride, const int32_t* ids, int64_t pixels, const OutputTile& output);
void pool_row(const PoolRow& row, float* y);
void scatter_taps(const SumTable& table, const TapRow& row, const float* values, int64_t stride, int64_t channels);
void pack_pixels(const float* planes, int64_t plane, int64_t channels, int64_t pixels, float* out, int64_t stride);
void fold_rows(const float* rows, int64_t stride, const int32_t* ids, int64_t count, const FoldPiece* pieces,
               int64_t num_pieces, float* windows, int64_t step);
void multiply_bytes(const ByteProduct& product, int32_t* out, int64_t out_stride);
void keep_largest(const int32_t* products, int64_t count, int64_t width, float* largest);
void write_entries(const int32_t* products, int64_t taps, int64_t columns, const float* inverse, uint8_t* row);
void subtract_zero_points(const ByteProduct& product, const int32_t* zero_points, int64_t channels, int32_t* out,
                          int64_t out_stride);
void add_windows(const WindowTables& tables, const int32_t* ids, int64_t stride, int64_t windows, const int32_t* start,
                 int32_t* sums);
void write_quantised(const float* sums, int64_t stride, int64_t pixels, int64_t channels, const float* bias,
                     float inverse, const ByteLimits& limits, uint8_t* y, int64_t y_stride);
void write_bytes(const int32_t* sums, int64_t stride, int64_t windows, int64_t channels, const Requantisation& how,
                 const int32_t* places, uint8_t* y, int64_t y_stride);
void write_floats(const int32_t* sums, int64_t stride, int64_t windows, int64_t channels, const float* scales,
                  const float* bias, const int32_t* places, float* y, int64_t y_stride);
}  // namespace REUSE_TARGET
}  // namespace simd
}  // namespace reuse
