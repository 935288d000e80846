// Family `learned`: the leaf of a binary tree over raw or rotated coordinates.
#include "../simd/kernels.h"
#include "families.h"

namespace reuse {
namespace {

// A tree in subtrees: see subtree_leaves.
class TreeHasher final : public RowHasher {
 public:
  TreeHasher(Allocator& allocator, const int32_t* coordinates, const float* thresholds, int64_t depth)
      : depth_(depth), subtrees_(allocator) {
    const int64_t first = simd::first_levels(depth);
    subtrees_.resize(1);
    fill(coordinates, thresholds, 0, first, subtrees_.data());
    int64_t count = 1;
    for (int64_t levels = first; levels < depth; levels += 4) {
      const int64_t width = int64_t{1} << levels;
      subtrees_.resize(static_cast<size_t>(count + width));
      for (int64_t i = 0; i < width; ++i) {
        fill(coordinates, thresholds, width - 1 + i, 4, subtrees_.data() + count + i);
      }
      count += width;
    }
  }

  void codes(const Rows& rows, int64_t* codes) const override {
    simd::kernels().subtree_leaves(rows.values, rows.stride, rows.length, rows.count, subtrees_.data(), depth_, codes);
  }

 private:
  // Copies the nodes below `root`; in the whole tree the children of node n are 2 n + 1 and 2 n + 2.
  static void fill(const int32_t* coordinates, const float* thresholds, int64_t root, int64_t levels,
                   simd::Subtree* subtree) {
    *subtree = {};
    for (int64_t level = 0; level < levels; ++level) {
      const int64_t width = int64_t{1} << level, first = (root + 1) * width - 1;
      for (int64_t i = 0; i < width; ++i) {
        subtree->coordinates[width + i] = coordinates[first + i];
        subtree->thresholds[width + i] = thresholds[first + i];
      }
    }
  }

  int64_t depth_;
  Buffer<simd::Subtree> subtrees_;
};

// Width of the rows that a tile is brought into: what whole subtrees are compared with.
int64_t row_width(int64_t length) { return (length + simd::kLanes - 1) / simd::kLanes * simd::kLanes; }
constexpr int64_t kWidestRow = 2 * simd::kLanes;

// Tiles, rotated where the tree wants it, brought into rows.
class TreeCoder final : public TileCoder {
 public:
  // `rotation` [L, L] may be null.
  TreeCoder(TreeHasher tree, const float* rotation, int64_t length)
      : tree_(std::move(tree)), rotation_(rotation), length_(length) {}

  void codes(const Tile& tile, float* scratch, int64_t* codes) const override {
    const simd::Kernels& kernels = simd::kernels();
    float* rows = scratch + length_ * kTileVectors;
    Tile own = tile;
    if (rotation_ != nullptr) {
      kernels.project(tile.values, tile.stride, tile.length, tile.count, rotation_, length_, scratch);
      own = Tile{scratch, tile.stride, length_, tile.count};
    }
    const int64_t width = row_width(length_);
    kernels.tile_rows(own.values, own.stride, own.length, own.count, rows, width);
    tree_.codes({rows, width, width, own.count}, codes);
  }

 private:
  TreeHasher tree_;
  const float* rotation_;
  int64_t length_;
};

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

  std::unique_ptr<RowHasher> row_hasher(Allocator& allocator, int64_t block, int64_t num_hashes,
                                        const HashParameters& parameters, int64_t vectors) const override {
    if (parameters.projections != nullptr || !pays(num_hashes, vectors)) return nullptr;
    return std::make_unique<TreeHasher>(make_tree(allocator, block, num_hashes, parameters));
  }

  std::unique_ptr<TileCoder> tile_coder(Allocator& allocator, int64_t block, int64_t length, int64_t num_hashes,
                                        const HashParameters& parameters, int64_t vectors) const override {
    if (!simd::kernels().whole_subtrees || length > kWidestRow || !pays(num_hashes, vectors)) return nullptr;
    const float* rotation =
        parameters.projections == nullptr ? nullptr : parameters.projections + block * length * length;
    return std::make_unique<TreeCoder>(make_tree(allocator, block, num_hashes, parameters), rotation, length);
  }

  int64_t scratch_floats(int64_t length, int64_t) const override {
    return (length + (length > kWidestRow ? 0 : row_width(length))) * kTileVectors;
  }

 private:
  // Few vectors do not make up for the rearrangement of the tree.
  static bool pays(int64_t num_hashes, int64_t vectors) { return vectors >= int64_t{1} << num_hashes; }

  static TreeHasher make_tree(Allocator& allocator, int64_t block, int64_t num_hashes,
                              const HashParameters& parameters) {
    const int64_t nodes = (int64_t{1} << num_hashes) - 1;
    return TreeHasher(allocator, parameters.coordinates + block * nodes, parameters.thresholds + block * nodes,
                      num_hashes);
  }
};

}  // namespace

const HashFamily& learned_family() {
  static const Learned family;
  return family;
}

}  // namespace reuse
