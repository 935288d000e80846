// Stages encode and group of QLinearReuseConv: distinct neuron vectors of bytes.
#pragma once

#include <memory>
#include <vector>

#include "byte_rows.h"
#include "reuse/quantised.h"

namespace reuse {

// Distinct vectors of all blocks, [count, row_bytes] by block, and the ids [B, V] of all vectors among them. Bytes are
// unsigned here, as weights are multiplied with them.
struct ByteVectors {
  std::vector<DistinctRows> blocks;
  Buffer<int32_t> ids;
  std::vector<int32_t> padding;  // the vector that taps outside the image see, by block; empty if there are none
};

// Vectors of a block, zeros behind them.
std::unique_ptr<RowSource> vectors_of_block(const QuantisedPlan& plan, const Blocking& blocking, const uint8_t* x,
                                            int64_t block);

ByteVectors find_byte_vectors(const QuantisedPlan& plan, const Blocking& blocking, Workspace& workspace,
                              const uint8_t* x);

}  // namespace reuse
