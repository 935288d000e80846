// Stages multiply and assemble of QLinearReuseConv: tables of int32, a strip of output channels at a time, and sums of
// their rows.
#pragma once

#include "byte_windows.h"

namespace reuse {

// Size of a table per output channel and distinct vector.
int64_t table_bytes(const Blocking& blocking);

// Computes the outputs of a group's windows.
void add_byte_tables(const QuantisedPlan& plan, const Blocking& blocking, Workspace& workspace, int64_t group,
                     const ByteVectors& vectors, const ByteWindows& windows, uint8_t* y);

}  // namespace reuse
