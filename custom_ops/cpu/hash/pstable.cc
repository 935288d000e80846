// Family `pstable`: floor((v.p + b) / w), folded into one code.
#include <cmath>

#include "../simd/hash_kernels.h"
#include "families.h"

namespace reuse {
namespace {

// floor as an integer, clamped to [-2^62, 2^62]; NaN counts as 0.
int64_t slab(float projected, float offset, float width) {
  constexpr float kLargest = 4611686018427387904.0f;
  const float value = std::floor((projected + offset) / width);
  if (std::isnan(value)) return 0;
  return static_cast<int64_t>(value < -kLargest ? -kLargest : value > kLargest ? kLargest : value);
}

class PStableEncoder final : public Encoder {
 public:
  PStableEncoder(Allocator& allocator, const HashParameters& parameters, int64_t num_blocks, int64_t length,
                 int64_t num_hashes)
      : length_(length),
        num_hashes_(num_hashes),
        projections_(copied(allocator, parameters.projections, num_blocks * length * num_hashes)),
        offsets_(copied(allocator, parameters.thresholds, num_blocks * num_hashes)),
        widths_(copied(allocator, parameters.widths, num_blocks)) {}

  void codes(const Tile& tile, int64_t block, float* scratch, int64_t* codes) const override {
    simd::kernels().project(tile.values, tile.stride, tile.length, tile.count,
                            projections_.data() + block * length_ * num_hashes_, num_hashes_, scratch);
    const float* offsets = offsets_.data() + block * num_hashes_;
    const float width = widths_[static_cast<size_t>(block)];
    for (int64_t p = 0; p < tile.count; ++p) {
      uint64_t state = simd::kMixSeed;
      for (int64_t h = 0; h < num_hashes_; ++h) {
        const int64_t key = slab(scratch[h * tile.stride + p], offsets[h], width);
        state = simd::mix(state, static_cast<uint64_t>(key));
      }
      codes[p] = static_cast<int64_t>(state);
    }
  }

  int64_t scratch_floats() const override { return num_hashes_ * kTileVectors; }

 private:
  int64_t length_, num_hashes_;
  Buffer<float> projections_, offsets_, widths_;
};

class PStable final : public HashFamily {
 public:
  void check(const HashParameterSizes& sizes, int64_t num_blocks, int64_t length, int64_t num_hashes) const override {
    require_num_hashes("pstable", num_hashes, 64);
    require_parameter("pstable", "projections", sizes.projections, num_blocks * length * num_hashes);
    require_parameter("pstable", "thresholds", sizes.thresholds, num_blocks * num_hashes);
    require_parameter("pstable", "widths", sizes.widths, num_blocks);
  }

  std::unique_ptr<Encoder> encoder(Allocator& allocator, const HashParameters& parameters, int64_t num_blocks,
                                   int64_t length, int64_t num_hashes) const override {
    return std::make_unique<PStableEncoder>(allocator, parameters, num_blocks, length, num_hashes);
  }
};

}  // namespace

const HashFamily& pstable_family() {
  static const PStable family;
  return family;
}

}  // namespace reuse
