// The part of Gather that ReuseConv shares: adding table rows for every output pixel, and writing the sums out.
#pragma once

#include "pixel_tiles.h"
#include "reuse/operators.h"
#include "reuse/runtime.h"
#include "simd/kernels.h"

namespace reuse {

// A tile of a group's output channels and where it goes.
struct OutputChannels {
  int64_t first;  // channel of y
  int64_t count;
  const float* bias;  // [M] or null
  float* y;           // [N, M, Oh, Ow]
};

// Where sums are kept from one call of add_tables to the next.
struct SumsMemory {
  float* sums;                             // [N*Oh*Ow, stride], or null if one call adds all tables
  int64_t stride;                          // channels, padded to whole vectors
  bool fresh;                              // nothing has been added yet
  simd::WordSums words{nullptr, 0, true};  // of int8 tables
};

// Tables and, if they are of int8, the scales of their channels (else null).
struct ScaledTables {
  simd::Tables tables;
  const float* scale;
};

// Whether each output pixel is a single table row: that of its own vector.
bool rows_are_outputs(const Blocking& blocking);

// Where the taps of a row of output pixels read, from `column` on.
simd::TapRow tap_row(const Blocking& blocking, int64_t image, int64_t row, int64_t column, int64_t columns);

// Writes the sums of a tile of pixels, whose rows are `row_stride` floats apart, to the output. `whole_rows`: its
// pixels are neighbours in a channel's plane.
void write_tile(const ConvGeometry& geometry, const GatherAttributes& attributes, const OutputChannels& output,
                const PixelTile& tile, bool whole_rows, const simd::Sums& sums, int64_t row_stride);

// Adds to each output pixel the table rows that its vectors point to. With `output`, the sums are then written to it.
void add_tables(Workspace& workspace, const Blocking& blocking, const GatherAttributes& attributes,
                const ScaledTables& tables, const SumsMemory& memory, const OutputChannels* output);

}  // namespace reuse
