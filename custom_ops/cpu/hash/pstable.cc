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
  PStableEncoder(Allocator& allocator, const HashParameters& parameters, const HashShape& s)
      : shape_(s),
        projections_(copied(allocator, parameters.projections, s.num_blocks * s.length * s.num_hashes)),
        offsets_(copied(allocator, parameters.thresholds, s.num_blocks * s.num_hashes)),
        widths_(copied(allocator, parameters.widths, s.num_blocks)) {}

  static void check(const HashParameterSizes& sizes, const HashShape& s) {
    require_num_hashes("pstable", s.num_hashes, 64);
    require_parameter("pstable", "projections", sizes.projections, s.num_blocks * s.length * s.num_hashes);
    require_parameter("pstable", "thresholds", sizes.thresholds, s.num_blocks * s.num_hashes);
    require_parameter("pstable", "widths", sizes.widths, s.num_blocks);
  }

  void codes(const Tile& tile, int64_t block, float* scratch, int64_t* codes) const override {
    simd::kernels().project(tile.values, tile.stride, tile.length, tile.count,
                            projections_.data() + block * shape_.length * shape_.num_hashes, shape_.num_hashes,
                            scratch);
    const float* offsets = offsets_.data() + block * shape_.num_hashes;
    const float width = widths_[static_cast<size_t>(block)];
    for (int64_t p = 0; p < tile.count; ++p) {
      uint64_t state = simd::kMixSeed;
      for (int64_t h = 0; h < shape_.num_hashes; ++h) {
        const int64_t key = slab(scratch[h * tile.stride + p], offsets[h], width);
        state = simd::mix(state, static_cast<uint64_t>(key));
      }
      codes[p] = static_cast<int64_t>(state);
    }
  }

  int64_t scratch_floats() const override { return shape_.num_hashes * kTileVectors; }

 private:
  HashShape shape_;
  Buffer<float> projections_, offsets_, widths_;
};

}  // namespace

const HashFamily& pstable_family() {
  static const FamilyOf<PStableEncoder> family;
  return family;
}

}  // namespace reuse
