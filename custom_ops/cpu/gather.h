// The parts of Gather that ReuseConv shares: adding a block's table rows to pixel-major sums, and writing the sums out.
#pragma once

#include "reuse/operators.h"
#include "reuse/runtime.h"

namespace reuse {

// A block's products for a tile of output channels.
struct TableTile {
  const float* rows;
  int64_t row_stride;
  int64_t tap_stride;
  int64_t channels;
};

// Adds to sums [N*Oh*Ow, sums_stride] the rows that each output pixel's vectors point to; `ids` is [V].
void add_block(Context& context, const Blocking& blocking, const TableTile& table, const int32_t* ids, float* sums,
               int64_t sums_stride);

// Writes sums [N*Oh*Ow, sums_stride] of `channels` channels to y [N, M, Oh, Ow] from channel `first_channel` on, with
// bias [M] (or null) and activation.
void write_output(Context& context, const Blocking& blocking, const GatherAttributes& attributes, const float* sums,
                  int64_t sums_stride, int64_t first_channel, int64_t channels, const float* bias, float* y);

}  // namespace reuse
