// The products of given centroids and weights (docs/operators.md, Static tables).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "large_memory.h"
#include "reuse/plan.h"
#include "simd/static_kernels.h"

namespace reuse {

// What static tables are made of.
struct StaticOperands {
  Blocking any_size;  // of inputs of any size
  TableType table = TableType::kFloat;
  bool keep = true;
  int64_t clusters = 0;          // C: centroids of a block
  std::vector<float> weights;    // [M, Ic/group, kh, kw]
  std::vector<float> centroids;  // [B, C, L]

  bool operator==(const StaticOperands& other) const;
};

// Tables by block and tile of output channels. A table has a row per centroid, and a last one of zeros; a row is
// [taps, tile_channels()]. Int8 entries have the order of simd::kInt8Channels, with the bias of simd::kStaticBias. All
// tiles of a layer have as many channels, those beyond the layer's being zeros.
class StaticTables {
 public:
  // Returns the tables of these operands, those of another holder in this process if there is one. Throws
  // std::invalid_argument for centroids that are not finite, or if int8 entries cannot have exact sums.
  static std::shared_ptr<const StaticTables> of(StaticOperands operands);
  explicit StaticTables(StaticOperands operands);

  const StaticOperands& operands() const { return operands_; }
  int64_t rows() const { return operands_.clusters; }  // of a table, but the last one
  bool are_int8() const { return operands_.table == TableType::kInt8; }
  bool are_kept() const { return operands_.keep; }
  int64_t num_tiles() const { return num_tiles_; }
  int64_t tile_channels() const { return tile_channels_; }
  int64_t tile_size(int64_t tile) const;  // channels of the layer
  int64_t tap_bytes() const { return tile_channels_ * entry_bytes(); }
  int64_t row_bytes() const { return taps_ * tap_bytes(); }
  int64_t block_bytes() const { return (operands_.clusters + 1) * row_bytes(); }
  // Bytes of the tables of all blocks.
  int64_t bytes() const { return operands_.any_size.num_blocks() * num_tiles_ * block_bytes(); }

  // A block's table for a tile, followed by those of the group's next blocks; null unless tables are kept.
  const uint8_t* kept(int64_t block, int64_t tile) const;
  // Writes that table, for its row of zeros, too.
  void write(Allocator& allocator, int64_t block, int64_t tile, uint8_t* rows) const;
  // By channel of the tile: what int8 sums are multiplied by; null for float32.
  const float* scale(int64_t group, int64_t tile) const;

 private:
  // What the centroids of a block are multiplied with, and where products go.
  struct Panel;
  int64_t entry_bytes() const { return operands_.table == TableType::kInt8 ? 1 : sizeof(float); }
  void check() const;
  void find_scales();
  size_t channel_index(int64_t group, int64_t tile) const {
    return static_cast<size_t>((group * num_tiles_ + tile) * tile_channels_);
  }

  StaticOperands operands_;
  LargeMemory memory_;
  int64_t taps_, tile_channels_, num_tiles_;
  std::vector<float> scales_, inverses_;  // by group, tile and channel
  Buffer<uint8_t> tables_;                // by group, tile, block
};

// ReuseConv of scope static. `state` is that of an incremental node, else null.
void static_conv(const ReusePlan& plan, ReuseState* state, const Blocking& blocking, Workspace& workspace,
                 const float* x, float* y);

}  // namespace reuse
