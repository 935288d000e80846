// Family `learned`: the leaf of a binary tree over raw or rotated coordinates.
#include <memory>
#include <stdexcept>
#include <string>

#include "../simd/kernels.h"
#include "byte_trees.h"
#include "families.h"
#include "reuse/checked.h"

namespace reuse {
namespace {

// The trees of all blocks in subtrees: see subtree_leaves.
class Subtrees final : public RowEncoder {
 public:
  Subtrees(Allocator& allocator, const HashParameters& parameters, int64_t num_blocks, int64_t depth)
      : depth_(depth), per_block_(count(depth)), subtrees_(allocator, static_cast<size_t>(num_blocks * per_block_)) {
    const int64_t nodes = (int64_t{1} << depth) - 1;
    for (int64_t block = 0; block < num_blocks; ++block) {
      rearrange(parameters.coordinates + block * nodes, parameters.thresholds + block * nodes,
                subtrees_.data() + block * per_block_);
    }
  }

  void codes(const Rows& rows, int64_t block, int64_t* codes) const override {
    simd::kernels().subtree_leaves(rows.values, rows.stride, rows.length, rows.count,
                                   subtrees_.data() + block * per_block_, depth_, codes);
  }

 private:
  static int64_t count(int64_t depth) {
    int64_t total = 1;
    for (int64_t levels = simd::first_levels(depth); levels < depth; levels += 4) total += int64_t{1} << levels;
    return total;
  }

  void rearrange(const int32_t* coordinates, const float* thresholds, simd::Subtree* subtrees) const {
    const int64_t first = simd::first_levels(depth_);
    fill(coordinates, thresholds, 0, first, subtrees++);
    for (int64_t levels = first; levels < depth_; levels += 4) {
      const int64_t width = int64_t{1} << levels;
      for (int64_t i = 0; i < width; ++i) fill(coordinates, thresholds, width - 1 + i, 4, subtrees++);
    }
  }

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

  int64_t depth_, per_block_;
  Buffer<simd::Subtree> subtrees_;
};

// Width of the rows that a tile is brought into: what whole subtrees are compared with.
int64_t row_width(int64_t length) { return (length + simd::kLanes - 1) / simd::kLanes * simd::kLanes; }
constexpr int64_t kWidestRow = 2 * simd::kLanes;

// Blocks whose thresholds lie on a grid are walked down by bytes, if there is a kernel for that. Other tiles, rotated
// where the trees want it, go to subtrees if these are compared as a whole, else from node to node.
class TreeEncoder final : public Encoder {
 public:
  TreeEncoder(Allocator& allocator, const HashParameters& parameters, const HashShape& s)
      : length_(s.length),
        depth_(s.num_hashes),
        in_rows_(simd::kernels().whole_subtrees && length_ <= kWidestRow),
        rotated_(parameters.projections != nullptr),
        rotations_(copied(allocator, parameters.projections, rotated_ ? s.num_blocks * length_ * length_ : 0)),
        coordinates_(copied(allocator, parameters.coordinates, in_rows_ ? 0 : s.num_blocks * nodes())),
        thresholds_(copied(allocator, parameters.thresholds, in_rows_ ? 0 : s.num_blocks * nodes())) {
    check_coordinates(parameters.coordinates, s.num_blocks * nodes(), length_);
    if (simd::kernels().byte_leaves != nullptr) bytes_ = std::make_unique<const ByteTrees>(allocator, parameters, s);
    if (bytes_ != nullptr && bytes_->complete()) return;
    if (in_rows_ || !rotated_)
      subtrees_ = std::make_unique<const Subtrees>(allocator, parameters, s.num_blocks, depth_);
  }

  bool codes(const Tile& tile, int64_t block, float* scratch, int64_t* codes) const override {
    if (const simd::ByteTree* own = byte_tree(block)) return byte_codes(tile, *own, scratch, codes);
    walk(tile, block, scratch, codes);
    return false;
  }

  bool narrow_codes(const Tile& tile, int64_t block, float* scratch, uint8_t* codes) const override {
    const simd::ByteTree* own = byte_tree(block);
    return own != nullptr ? byte_codes(tile, *own, scratch, codes) : Encoder::narrow_codes(tile, block, scratch, codes);
  }

  bool narrow_codes(const Tile& tile, int64_t block, float* scratch, uint16_t* codes) const override {
    const simd::ByteTree* own = byte_tree(block);
    return own != nullptr ? byte_codes(tile, *own, scratch, codes) : Encoder::narrow_codes(tile, block, scratch, codes);
  }

  int64_t scratch_floats() const override { return (length_ + (in_rows_ ? row_width(length_) : 0)) * kTileVectors; }

  const RowEncoder* by_rows() const override { return rotated_ ? nullptr : subtrees_.get(); }

 private:
  int64_t nodes() const { return (int64_t{1} << depth_) - 1; }

  const simd::ByteTree* byte_tree(int64_t block) const { return bytes_ == nullptr ? nullptr : bytes_->tree(block); }

  template <typename Code>
  static bool byte_codes(const Tile& tile, const simd::ByteTree& tree, float* scratch, Code* codes) {
    return simd::kernels().byte_leaves(tile.values, tile.stride, tile.length, tile.count, tree, scratch, sizeof(Code),
                                       codes);
  }

  void walk(const Tile& tile, int64_t block, float* scratch, int64_t* codes) const {
    const simd::Kernels& kernels = simd::kernels();
    Tile own = tile;
    if (rotated_) {
      kernels.project(tile.values, tile.stride, tile.length, tile.count, rotations_.data() + block * length_ * length_,
                      length_, scratch, kTileVectors);
      own = Tile{scratch, kTileVectors, length_, tile.count};
    }
    if (in_rows_) {
      float* rows = scratch + length_ * kTileVectors;
      const int64_t width = row_width(length_);
      kernels.tile_rows(own.values, own.stride, own.length, own.count, rows, width);
      subtrees_->codes({rows, width, width, own.count}, block, codes);
      return;
    }
    if (own.length < length_) own = padded(own, scratch);
    kernels.tree_leaves(own.values, own.stride, own.count, coordinates_.data() + block * nodes(),
                        thresholds_.data() + block * nodes(), depth_, codes);
  }

  // A short block's vectors count as padded with zeros, and a tree may split on the padding.
  Tile padded(const Tile& tile, float* values) const {
    for (int64_t l = 0; l < length_; ++l) {
      for (int64_t p = 0; p < tile.count; ++p) {
        values[l * kTileVectors + p] = l < tile.length ? tile.values[l * tile.stride + p] : 0.0f;
      }
    }
    return Tile{values, kTileVectors, length_, tile.count};
  }

  int64_t length_, depth_;
  bool in_rows_, rotated_;
  Buffer<float> rotations_;
  Buffer<int32_t> coordinates_;
  Buffer<float> thresholds_;
  std::unique_ptr<const ByteTrees> bytes_;
  // Unless all blocks are walked down by bytes, or neither tiles nor rows go to them.
  std::unique_ptr<const Subtrees> subtrees_;
};

class LearnedFamily final : public HashFamily {
 public:
  const char* name() const override { return "learned"; }
  int64_t max_hashes() const override { return 16; }
  HashParameterSizes required(const HashShape& s) const override {
    const int64_t nodes = (int64_t{1} << s.num_hashes) - 1;
    return {-1, s.num_blocks * nodes, s.num_blocks * nodes};
  }
  // The rotation.
  HashParameterSizes optional(const HashShape& s) const override {
    return {checked::product({s.num_blocks, s.length, s.length}, "projections")};
  }
  std::unique_ptr<Encoder> encoder(Allocator& allocator, const HashParameters& parameters,
                                   const HashShape& shape) const override {
    return std::make_unique<TreeEncoder>(allocator, parameters, shape);
  }
};

}  // namespace

void check_coordinates(const int32_t* coordinates, int64_t count, int64_t length) {
  for (int64_t i = 0; i < count; ++i) {
    if (coordinates[i] < 0 || coordinates[i] >= length) {
      throw std::invalid_argument("coordinates hold " + std::to_string(coordinates[i]) + ", must be 0 to " +
                                  std::to_string(length - 1));
    }
  }
}

const HashFamily& learned_family() {
  static const LearnedFamily family;
  return family;
}

}  // namespace reuse
