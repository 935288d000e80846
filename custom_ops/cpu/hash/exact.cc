// Family `exact`: a 64-bit fingerprint of the vector's bits. Cluster verifies members, so equal codes are only a hint.
#include <memory>

#include "../simd/kernels.h"
#include "families.h"

namespace reuse {
namespace {

class ExactEncoder final : public Encoder {
 public:
  ExactEncoder(Allocator&, const HashParameters&, const HashShape&) {}

  bool codes(const Tile& tile, int64_t, float*, int64_t* codes) const override {
    simd::kernels().fingerprint(tile.values, tile.stride, tile.length, tile.count, codes);
    return false;
  }
};

class ExactFamily final : public HashFamily {
 public:
  const char* name() const override { return "exact"; }
  bool is_lossless() const override { return true; }
  int64_t max_hashes() const override { return 0; }
  HashParameterSizes required(const HashShape&) const override { return {}; }
  std::unique_ptr<Encoder> encoder(Allocator& allocator, const HashParameters& parameters,
                                   const HashShape& shape) const override {
    return std::make_unique<ExactEncoder>(allocator, parameters, shape);
  }
};

}  // namespace

const HashFamily& exact_family() {
  static const ExactFamily family;
  return family;
}

}  // namespace reuse
