// Sums of clusters' members: integers, whose order does not matter (numbers.h, FixedPoint), and what they are scaled
// by.
#pragma once

#include "numbers.h"
#include "vectors.h"

namespace reuse::cuda {

// Sums in memory. Arrays have `rows` rows for each block.
struct MemberSums {
  int32_t rows, length;
  int64_t* elements;  // [B, rows, L]; null: there are none
  int32_t* members;   // [B, rows]
  int64_t* norms;     // [B, rows]: only of metric angular, else null

  // Clears every step-th item, from `item` on, of a block's first `count` rows.
  REUSE_BOTH void clear(int32_t block, int32_t count, int64_t item, int64_t step) const {
    if (elements == nullptr) return;
    const int64_t first = static_cast<int64_t>(block) * rows;
    for (int64_t i = item; i < static_cast<int64_t>(count) * length; i += step) {
      elements[first * length + i] = 0;
      if (i >= count) continue;
      members[first + i] = 0;
      if (norms != nullptr) norms[first + i] = 0;
    }
  }
};

// What the sums' fixed point is, from the block's largest magnitude.
struct SumScale {
  int32_t vectors, length;
  const uint32_t* largest;  // [B]

  REUSE_BOTH FixedPoint elements(int32_t block, bool angular) const {
    return FixedPoint::of(vectors, angular ? 1 : exponent_above(float_of(largest[block])));
  }
  // A norm is at most sqrt(L) times the largest magnitude.
  REUSE_BOTH FixedPoint norms(int32_t block) const {
    return FixedPoint::of(vectors, exponent_above(float_of(largest[block])) + log2_up(length));
  }
};

// A scale from before X is read: what no element should exceed, which is known for certain only afterwards.
struct GuessedScale {
  int32_t vectors;
  const int32_t* exponents;  // [B]; null: nothing is guessed
  const uint32_t* largest;   // [B]

  REUSE_BOTH FixedPoint elements(int32_t block) const { return FixedPoint::of(vectors, exponents[block]); }
  // Whether elements up to a magnitude may be summed.
  REUSE_BOTH bool allows(int32_t block, uint32_t magnitude_bits) const {
    return exponent_above(float_of(magnitude_bits)) <= exponents[block];
  }
  // Whether the block's sums are right, once `largest` is known.
  REUSE_BOTH bool holds(int32_t block) const { return exponents != nullptr && allows(block, largest[block]); }
};

// An element as it is summed: metric angular sums unit vectors, of which a zero vector counts as zero.
REUSE_BOTH inline float summand(float value, const double* norm) {
  if (norm == nullptr || *norm == 0.0) return value;
  return static_cast<float>(static_cast<double>(value) / *norm);
}

}  // namespace reuse::cuda
