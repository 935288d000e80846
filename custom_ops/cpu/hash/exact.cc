// Family `exact`: a 64-bit fingerprint of the vector's bits. Cluster verifies members, so equal codes are only a hint.
#include "../simd/kernels.h"
#include "families.h"

namespace reuse {
namespace {

class ExactEncoder final : public Encoder {
 public:
  static constexpr const char* kName = "exact";

  ExactEncoder(Allocator&, const HashParameters&, const HashShape&) {}
  static void check(const HashParameterSizes&, const HashShape&) {}

  void codes(const Tile& tile, int64_t, float*, int64_t* codes) const override {
    simd::kernels().fingerprint(tile.values, tile.stride, tile.length, tile.count, codes);
  }
};

}  // namespace

const HashFamily& exact_family() {
  static const FamilyOf<ExactEncoder> family(/*lossless=*/true);
  return family;
}

}  // namespace reuse
