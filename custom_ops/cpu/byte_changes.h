// What a quantised layer's input has that its last one had not.
#pragma once

#include "reuse/quantised.h"

namespace reuse {

struct ByteChanges {
  int64_t pixels;              // of the input
  Buffer<int32_t> of_outputs;  // the pixels [N, Oh, Ow] whose windows hold other bytes than before, in their order
};

// Compares x with the last one, which becomes x.
ByteChanges take_changes(const Blocking& blocking, Workspace& workspace, const uint8_t* x, uint8_t* last);

// Computes these pixels of y [N, Oh, Ow] from their windows in x, whether any are equal or not.
void multiply_pixels(const QuantisedPlan& plan, const Blocking& blocking, Workspace& workspace,
                     const Buffer<int32_t>& pixels, const uint8_t* x, uint8_t* y);

}  // namespace reuse
