// Family `learned`: the leaf of a binary tree over raw or rotated coordinates.
#include "../simd/kernels.h"
#include "families.h"

namespace reuse {
namespace {

class Learned final : public HashFamily {
 public:
  void check(const HashParameterSizes& sizes, int64_t num_blocks, int64_t length, int64_t num_hashes) const override {
    require_num_hashes("learned", num_hashes, 16);
    const int64_t nodes = (int64_t{1} << num_hashes) - 1;
    require_parameter("learned", "thresholds", sizes.thresholds, num_blocks * nodes);
    require_parameter("learned", "coordinates", sizes.coordinates, num_blocks * nodes);
    if (sizes.projections >= 0) {
      require_parameter("learned", "projections (the rotation)", sizes.projections, num_blocks * length * length);
    }
  }

  void codes(const Tile& tile, int64_t block, int64_t length, int64_t num_hashes, const HashParameters& parameters,
             float* scratch, int64_t* codes) const override {
    const simd::Kernels& kernels = simd::kernels();
    const int64_t nodes = (int64_t{1} << num_hashes) - 1;
    const float* values = tile.values;
    if (parameters.projections != nullptr) {
      kernels.project(tile.values, tile.stride, tile.length, tile.count,
                      parameters.projections + block * length * length, length, scratch);
      values = scratch;
    } else if (tile.length < length) {
      // A short block's vectors count as padded with zeros, and a tree may split on the padding.
      for (int64_t l = 0; l < length; ++l) {
        for (int64_t p = 0; p < tile.count; ++p) {
          scratch[l * tile.stride + p] = l < tile.length ? tile.values[l * tile.stride + p] : 0.0f;
        }
      }
      values = scratch;
    }
    kernels.tree_leaves(values, tile.stride, tile.count, parameters.coordinates + block * nodes,
                        parameters.thresholds + block * nodes, num_hashes, codes);
  }

  int64_t scratch_floats(int64_t length, int64_t) const override { return length * kTileVectors; }
};

}  // namespace

const HashFamily& learned_family() {
  static const Learned family;
  return family;
}

}  // namespace reuse
