// Stages multiply and assemble of QLinearReuseConv without tables: a product of all weights for each distinct window.
#pragma once

#include <vector>

#include "byte_tables.h"

namespace reuse {

// Computes the outputs of windows of a group; `vectors` are by block of the group.
void multiply_windows(const QuantisedPlan& plan, const Blocking& blocking, Workspace& workspace, int64_t group,
                      const std::vector<BlockVectors>& vectors, const Windows& windows, uint8_t* y);

}  // namespace reuse
