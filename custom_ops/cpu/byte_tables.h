// Stages multiply and assemble of QLinearReuseConv: tables of int32, a strip of output channels at a time, and sums of
// their rows.
#pragma once

#include <vector>

#include "reuse/quantised.h"

namespace reuse {

// Distinct vectors of a block.
struct BlockVectors {
  const uint8_t* rows;
  int64_t count;
};

// Distinct windows, whose ids are of such vectors.
struct Windows {
  const int32_t* ids;  // [count, stride]
  int64_t stride, count;
  const int32_t* places;  // the output pixel of each
};

// Size of a table per output channel and distinct vector.
int64_t table_bytes(const Blocking& blocking);

// Computes the outputs of a group's windows; `vectors` are by block of the group.
void add_byte_tables(const QuantisedPlan& plan, const Blocking& blocking, Workspace& workspace, int64_t group,
                     const std::vector<BlockVectors>& vectors, const Windows& windows, uint8_t* y);

}  // namespace reuse
