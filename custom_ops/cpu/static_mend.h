// What static layers make of vectors with a NaN or an infinity.
#pragma once

#include "static_tables.h"

namespace reuse {

// Counts these vectors, which are clusters of their own, and gives the outputs that read one, which are never finite,
// what their dense products make of them. It hardly ever happens, so it looks for them anew.
void mend_static_outputs(const StaticTables& tables, const GatherAttributes& attributes, const Blocking& blocking,
                         Workspace& workspace, const float* bias, const float* x, float* y);

}  // namespace reuse
