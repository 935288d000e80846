// Family `sign`: random hyperplanes (inference paper Eq. 1).
#include "../simd/kernels.h"
#include "families.h"

namespace reuse {
namespace {

class Sign final : public HashFamily {
 public:
  void check(const HashParameterSizes& sizes, int64_t num_blocks, int64_t length, int64_t num_hashes) const override {
    require_num_hashes("sign", num_hashes, 64);
    require_parameter("sign", "projections", sizes.projections, num_blocks * length * num_hashes);
    require_parameter("sign", "thresholds", sizes.thresholds, num_blocks * num_hashes);
  }

  void codes(const Tile& tile, int64_t block, int64_t length, int64_t num_hashes, const HashParameters& parameters,
             float* scratch, int64_t* codes) const override {
    const simd::Kernels& kernels = simd::kernels();
    kernels.project(tile.values, tile.stride, tile.length, tile.count,
                    parameters.projections + block * length * num_hashes, num_hashes, scratch);
    kernels.sign_bits(scratch, tile.stride, num_hashes, tile.count, parameters.thresholds + block * num_hashes, codes);
  }

  int64_t scratch_floats(int64_t, int64_t num_hashes) const override { return num_hashes * kTileVectors; }
};

}  // namespace

const HashFamily& sign_family() {
  static const Sign family;
  return family;
}

}  // namespace reuse
