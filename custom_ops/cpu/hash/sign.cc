// Family `sign`: random hyperplanes (inference paper Eq. 1).
#include <memory>

#include "../simd/kernels.h"
#include "families.h"
#include "reuse/checked.h"

namespace reuse {
namespace {

class SignEncoder final : public Encoder {
 public:
  SignEncoder(Allocator& allocator, const HashParameters& parameters, const HashShape& s)
      : shape_(s),
        projections_(copied(allocator, parameters.projections, s.num_blocks * s.length * s.num_hashes)),
        thresholds_(copied(allocator, parameters.thresholds, s.num_blocks * s.num_hashes)) {}

  bool codes(const Tile& tile, int64_t block, float* scratch, int64_t* codes) const override {
    const simd::Kernels& kernels = simd::kernels();
    kernels.project(tile.values, tile.stride, tile.length, tile.count,
                    projections_.data() + block * shape_.length * shape_.num_hashes, shape_.num_hashes, scratch,
                    kTileVectors);
    kernels.sign_bits(scratch, kTileVectors, shape_.num_hashes, tile.count,
                      thresholds_.data() + block * shape_.num_hashes, codes);
    return false;
  }

  int64_t scratch_floats() const override { return shape_.num_hashes * kTileVectors; }

 private:
  HashShape shape_;
  Buffer<float> projections_, thresholds_;
};

class SignFamily final : public HashFamily {
 public:
  const char* name() const override { return "sign"; }
  HashParameterSizes required(const HashShape& s) const override {
    return {checked::product({s.num_blocks, s.length, s.num_hashes}, "projections"), s.num_blocks * s.num_hashes};
  }
  std::unique_ptr<Encoder> encoder(Allocator& allocator, const HashParameters& parameters,
                                   const HashShape& shape) const override {
    return std::make_unique<SignEncoder>(allocator, parameters, shape);
  }
};

}  // namespace

const HashFamily& sign_family() {
  static const SignFamily family;
  return family;
}

}  // namespace reuse
