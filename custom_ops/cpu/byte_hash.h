// Codes of neuron vectors of bytes: those of the floats that the bytes stand for (docs/operators.md, Hash).
#pragma once

#include <memory>
#include <vector>

#include "hash/byte_trees.h"
#include "reuse/quantised.h"
#include "simd/kernels.h"
#include "tile_hasher.h"

namespace reuse {

class ByteHash {
 public:
  // `encoder` is that of the floats, with these attributes and parameters.
  ByteHash(Allocator& allocator, std::shared_ptr<const Encoder> encoder, const HashAttributes& attributes,
           const HashParameters& parameters, const HashShape& shape, const QuantisedOperands& operands);

  const Encoder& encoder() const { return *encoder_; }
  int64_t num_hashes() const { return num_hashes_; }

  // Vectors of a block that are rows of `stride` bytes, `readable` bytes from `values` on.
  simd::ByteVectors vectors(const uint8_t* values, int64_t stride, int64_t length, int64_t count,
                            int64_t readable) const {
    return {values, stride, length, count, readable, x_flip_, padding_};
  }
  // Those of a pixel-major x, from vector `first` of the block on.
  simd::ByteVectors vectors(const Blocking& blocking, const uint8_t* x, int64_t block, int64_t first,
                            int64_t count) const {
    const int64_t channels = blocking.geometry.in_channels, begin = first * channels + blocking.first_channel(block);
    return vectors(x + begin, channels, blocking.block_length(block), count, blocking.vectors * channels - begin);
  }

  // Writes the codes of at most kTileVectors vectors.
  template <typename Code>
  void codes(const simd::ByteVectors& vectors, int64_t block, const TileMemory& memory, Code* codes) const;

 private:
  // Null where bytes are brought to floats first.
  std::unique_ptr<const ByteTrees> byte_trees(Allocator& allocator, const HashAttributes& attributes,
                                              const HashParameters& parameters, const HashShape& shape) const;

  std::shared_ptr<const Encoder> encoder_;
  int64_t num_hashes_;
  uint8_t x_flip_;   // as in QuantisedPlan
  uint8_t padding_;  // the byte that stands for zero, once flipped
  float x_scale_;
  std::vector<float> values_;  // what bytes stand for, once flipped
  std::unique_ptr<const ByteTrees> trees_;
};

}  // namespace reuse
