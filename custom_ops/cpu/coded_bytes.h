// QLinearReuseConv with a hash: clusters of a run, and their tables of int8.
#pragma once

#include <vector>

#include "reuse/quantised.h"
#include "simd/static_kernels.h"

namespace reuse {

// The clusters of one block.
struct CodedClusters {
  explicit CodedClusters(Allocator& allocator) : codes(allocator), centroids(allocator) {}
  int64_t count() const { return static_cast<int64_t>(codes.size()); }

  Buffer<uint16_t> codes;
  Buffer<uint8_t> centroids;  // [count, row_bytes], as weights are multiplied with them
};

// What StaticTables are to centroids that are given: a table has a row for each code, those that no vector has being
// left as they are, and a last one of zeros. Tables are made a step at a time, and never kept.
class CodedByteTables {
 public:
  CodedByteTables(const CodedBytePlan& plan, const Blocking& blocking, Workspace& workspace);

  // Where the codes of a block's vectors go, all of which must be there before the next.
  uint16_t* codes(int64_t block) { return codes_.data() + block * blocking_.vectors; }
  // Finds clusters and centroids of these vectors of x, and the scales of their tables.
  void represent(Workspace& workspace, const uint8_t* x);
  int64_t clusters() const;  // of all blocks

  int64_t rows() const { return plan_.num_codes(); }
  bool are_int8() const { return true; }
  bool are_kept() const { return false; }
  int64_t bytes() const { return 0; }
  const uint8_t* kept(int64_t, int64_t) const { return nullptr; }
  int64_t num_tiles() const { return num_tiles_; }
  int64_t tile_channels() const { return simd::kStaticChannels; }
  int64_t tile_size(int64_t tile) const;  // channels of the layer
  int64_t tap_bytes() const { return tile_channels(); }
  int64_t row_bytes() const { return taps_ * tap_bytes(); }
  int64_t block_bytes() const { return (rows() + 1) * row_bytes(); }
  void write(Allocator& allocator, int64_t block, int64_t tile, uint8_t* rows) const;
  const float* scale(int64_t group, int64_t tile) const { return scales_.data() + channel_index(group, tile); }

 private:
  void number(int64_t block, Buffer<int32_t>& ids);
  void average(Allocator& allocator, int64_t block, const Buffer<int32_t>& ids, const uint8_t* x);
  void find_scales(Workspace& workspace);
  // Calls `take(first, count, products)` for the block's clusters; products are [count, taps, tile_channels].
  template <typename Take>
  void multiply(Allocator& allocator, int64_t block, int64_t tile, const Take& take) const;
  size_t channel_index(int64_t group, int64_t tile) const {
    return static_cast<size_t>((group * num_tiles_ + tile) * tile_channels());
  }

  const CodedBytePlan& plan_;
  const Blocking& blocking_;
  int64_t taps_, num_tiles_;
  Buffer<uint16_t> codes_;  // [B, V]
  std::vector<CodedClusters> clusters_;
  std::vector<float> scales_, inverses_;  // by group, tile and channel
};

}  // namespace reuse
