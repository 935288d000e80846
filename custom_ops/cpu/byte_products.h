// Stages multiply and assemble of QLinearReuseConv without tables: a product of all weights for each window.
#pragma once

#include <functional>

#include "byte_windows.h"

namespace reuse {

// Tells where the vectors of windows `first` ... of a group are, [count, blocks of the group, taps per block]: rows of
// row_bytes that are zeros behind the vector. `room` is memory to put some there.
using ReadWindows = std::function<void(int64_t first, int64_t count, Buffer<uint8_t>& room, const uint8_t** vectors)>;

// Computes the outputs of `count` windows of a group, those of the pixels `places` of y [N, Oh, Ow].
void multiply_windows(const QuantisedPlan& plan, const Blocking& blocking, Workspace& workspace, int64_t group,
                      int64_t count, const int32_t* places, const ReadWindows& read, uint8_t* y);

}  // namespace reuse
