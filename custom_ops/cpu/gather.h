// The part of Gather that ReuseConv shares: adding table rows for every output pixel, and writing the sums out.
#pragma once

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

// Adds to each output pixel the table rows that its vectors point to. `memory` keeps the sums [N*Oh*Ow, stride] from
// one call to the next; it is null if one call adds all tables. With `output`, the sums are then written to it.
void add_tables(Context& context, const Blocking& blocking, const GatherAttributes& attributes,
                const simd::Tables& tables, int64_t stride, float* memory, bool fresh, const OutputChannels* output);

}  // namespace reuse
