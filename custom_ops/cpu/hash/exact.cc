// Family `exact`: a 64-bit fingerprint of the vector's bits. Cluster verifies members, so equal codes are only a hint.
#include "../simd/kernels.h"
#include "families.h"

namespace reuse {
namespace {

class Exact final : public HashFamily {
 public:
  void check(const HashParameterSizes&, int64_t, int64_t, int64_t) const override {}

  void codes(const Tile& tile, int64_t, int64_t, int64_t, const HashParameters&, float*,
             int64_t* codes) const override {
    simd::kernels().fingerprint(tile.values, tile.stride, tile.length, tile.count, codes);
  }

  int64_t scratch_floats(int64_t, int64_t) const override { return 0; }
};

}  // namespace

const HashFamily& exact_family() {
  static const Exact family;
  return family;
}

}  // namespace reuse
