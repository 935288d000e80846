// Family `exact`: a 64-bit fingerprint of the vector's bits. Cluster verifies members, so equal codes are only a hint.
#include "../simd/kernels.h"
#include "families.h"

namespace reuse {
namespace {

class ExactEncoder final : public Encoder {
 public:
  void codes(const Tile& tile, int64_t, float*, int64_t* codes) const override {
    simd::kernels().fingerprint(tile.values, tile.stride, tile.length, tile.count, codes);
  }
};

class Exact final : public HashFamily {
 public:
  void check(const HashParameterSizes&, int64_t, int64_t, int64_t) const override {}
  std::unique_ptr<Encoder> encoder(Allocator&, const HashParameters&, int64_t, int64_t, int64_t) const override {
    return std::make_unique<ExactEncoder>();
  }
};

}  // namespace

const HashFamily& exact_family() {
  static const Exact family;
  return family;
}

}  // namespace reuse
