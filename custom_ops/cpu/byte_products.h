// Stages multiply and assemble of QLinearReuseConv without tables: a product of all weights for each distinct window.
#pragma once

#include "byte_windows.h"

namespace reuse {

// Computes the outputs of a group's windows.
void multiply_windows(const QuantisedPlan& plan, const Blocking& blocking, Workspace& workspace, int64_t group,
                      const ByteVectors& vectors, const ByteWindows& windows, uint8_t* y);

}  // namespace reuse
