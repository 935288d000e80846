// Trees of family `learned` whose thresholds lie on a grid, prepared for simd::Kernels::byte_leaves; or for
// leaves_of_bytes, where vectors are bytes.
#pragma once

#include "../simd/kernels.h"
#include "reuse/hash_family.h"

namespace reuse {

class ByteTrees {
 public:
  // Coordinates are within a vector's length. `of_bytes`: a vector goes right where a byte is above the threshold,
  // which is a whole number, or infinite for no byte.
  ByteTrees(Allocator& allocator, const HashParameters& parameters, const HashShape& shape, bool of_bytes = false);

  // Null if the block's thresholds lie on no grid.
  const simd::ByteTree* tree(int64_t block) const {
    const simd::ByteTree& own = trees_[static_cast<size_t>(block)];
    return own.depth == 0 ? nullptr : &own;
  }
  // Whether no block lacks a tree.
  bool complete() const { return complete_; }

 private:
  class Writer;

  bool complete_ = true;
  Buffer<simd::ByteTree> trees_;
  // What the trees point to.
  Buffer<simd::ByteGrid> grids_;
  Buffer<uint8_t> tables_;
  Buffer<uint16_t> words_;
  Buffer<float> rotations_;
};

}  // namespace reuse
