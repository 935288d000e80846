// Stages encode and group of QLinearReuseConv: distinct neuron vectors of bytes.
#pragma once

#include <memory>
#include <vector>

#include "byte_rows.h"
#include "reuse/quantised.h"

namespace reuse {

// Distinct vectors of a block: where each is, in the input or copied.
struct BlockVectors {
  explicit BlockVectors(Allocator& allocator) : copies(allocator), rows(allocator) {}
  int64_t count() const { return static_cast<int64_t>(rows.size()); }

  Buffer<uint8_t> copies;  // [count, row_bytes]
  Buffer<const uint8_t*> rows;
};

// Distinct vectors of all blocks, and the ids [B, V] of all vectors among them. Bytes are unsigned here, as weights are
// multiplied with them.
struct ByteVectors {
  std::vector<BlockVectors> blocks;
  Buffer<int32_t> ids;
  std::vector<int32_t> padding;  // the vector that taps outside the image see, by block; empty if there are none
  std::vector<uint8_t> outside;  // those vectors' bytes
};

// Whether vectors are rows of bytes in x as weights are multiplied with.
bool are_whole_rows(const QuantisedPlan& plan, const Blocking& blocking);

// Vectors of a block, zeros behind them.
std::unique_ptr<RowSource> vectors_of_block(const QuantisedPlan& plan, const Blocking& blocking, const uint8_t* x,
                                            int64_t block);

ByteVectors find_byte_vectors(const QuantisedPlan& plan, const Blocking& blocking, Workspace& workspace,
                              const uint8_t* x);

}  // namespace reuse
