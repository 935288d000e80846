// Family `sign`: random hyperplanes (inference paper Eq. 1).
#include "../simd/kernels.h"
#include "families.h"

namespace reuse {
namespace {

class SignEncoder final : public Encoder {
 public:
  SignEncoder(Allocator& allocator, const HashParameters& parameters, int64_t num_blocks, int64_t length,
              int64_t num_hashes)
      : length_(length),
        num_hashes_(num_hashes),
        projections_(copied(allocator, parameters.projections, num_blocks * length * num_hashes)),
        thresholds_(copied(allocator, parameters.thresholds, num_blocks * num_hashes)) {}

  void codes(const Tile& tile, int64_t block, float* scratch, int64_t* codes) const override {
    const simd::Kernels& kernels = simd::kernels();
    kernels.project(tile.values, tile.stride, tile.length, tile.count,
                    projections_.data() + block * length_ * num_hashes_, num_hashes_, scratch);
    kernels.sign_bits(scratch, tile.stride, num_hashes_, tile.count, thresholds_.data() + block * num_hashes_, codes);
  }

  int64_t scratch_floats() const override { return num_hashes_ * kTileVectors; }

 private:
  int64_t length_, num_hashes_;
  Buffer<float> projections_, thresholds_;
};

class Sign final : public HashFamily {
 public:
  void check(const HashParameterSizes& sizes, int64_t num_blocks, int64_t length, int64_t num_hashes) const override {
    require_num_hashes("sign", num_hashes, 64);
    require_parameter("sign", "projections", sizes.projections, num_blocks * length * num_hashes);
    require_parameter("sign", "thresholds", sizes.thresholds, num_blocks * num_hashes);
  }

  std::unique_ptr<Encoder> encoder(Allocator& allocator, const HashParameters& parameters, int64_t num_blocks,
                                   int64_t length, int64_t num_hashes) const override {
    return std::make_unique<SignEncoder>(allocator, parameters, num_blocks, length, num_hashes);
  }
};

}  // namespace

const HashFamily& sign_family() {
  static const Sign family;
  return family;
}

}  // namespace reuse
