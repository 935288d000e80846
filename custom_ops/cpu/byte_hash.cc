#include "byte_hash.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "reuse/checked.h"

namespace reuse {
namespace {

constexpr int32_t kHalf = 128, kBytes = 256;

}  // namespace

ByteHash::ByteHash(Allocator& allocator, std::shared_ptr<const Encoder> encoder, const HashAttributes& attributes,
                   const HashParameters& parameters, const HashShape& shape, const QuantisedOperands& operands)
    : encoder_(std::move(encoder)),
      num_hashes_(attributes.num_hashes),
      x_flip_(operands.x_signed ? kHalf : 0),
      padding_(static_cast<uint8_t>(operands.x_zero_point + x_flip_)),
      x_scale_(operands.x_scale) {
  for (int32_t byte = 0; byte < kBytes; ++byte) {
    values_.push_back(static_cast<float>(byte - padding_) * x_scale_);
    checked::require(std::isfinite(values_.back()), "x_scale is so large that bytes of x stand for infinities");
  }
  trees_ = byte_trees(allocator, attributes, parameters, shape);
}

// A byte is above a threshold if what it stands for is, so that the largest that is not becomes the threshold.
std::unique_ptr<const ByteTrees> ByteHash::byte_trees(Allocator& allocator, const HashAttributes& attributes,
                                                      const HashParameters& parameters, const HashShape& shape) const {
  const bool walks_by_bytes = attributes.family == &find_hash_family("learned") && parameters.projections == nullptr &&
                              simd::kernels().leaves_of_bytes != nullptr;
  if (!walks_by_bytes) return nullptr;
  std::vector<float> thresholds;
  for (int64_t i = 0; i < shape.num_blocks * ((int64_t{1} << shape.num_hashes) - 1); ++i) {
    const float threshold = parameters.thresholds[i];
    const auto below =
        std::isnan(threshold) ? kBytes : std::upper_bound(values_.begin(), values_.end(), threshold) - values_.begin();
    thresholds.push_back(below == kBytes ? std::numeric_limits<float>::infinity() : static_cast<float>(below - 1));
  }
  return std::make_unique<const ByteTrees>(
      allocator, HashParameters{nullptr, thresholds.data(), parameters.coordinates}, shape, true);
}

template <typename Code>
void ByteHash::codes(const simd::ByteVectors& vectors, int64_t block, const TileMemory& memory, Code* codes) const {
  const simd::ByteTree* tree = trees_ == nullptr ? nullptr : trees_->tree(block);
  const simd::Kernels& kernels = simd::kernels();
  if (tree != nullptr) {
    kernels.leaves_of_bytes(vectors, *tree, sizeof(Code), codes);
    return;
  }
  if (kernels.dequantise != nullptr) {
    kernels.dequantise(vectors, x_scale_, memory.values);
  } else {
    for (int64_t p = 0; p < vectors.count; ++p) {
      for (int64_t l = 0; l < vectors.length; ++l) {
        memory.values[l * kTileVectors + p] = values_[vectors.values[p * vectors.stride + l] ^ x_flip_];
      }
    }
  }
  encoder_->narrow_codes({memory.values, kTileVectors, vectors.length, vectors.count}, block, memory.scratch, codes);
}

template void ByteHash::codes(const simd::ByteVectors&, int64_t, const TileMemory&, uint8_t*) const;
template void ByteHash::codes(const simd::ByteVectors&, int64_t, const TileMemory&, uint16_t*) const;

}  // namespace reuse
