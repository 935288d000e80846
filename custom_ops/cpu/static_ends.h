// The ends of a layer whose tables have a row for each code, of floats or of bytes: vectors to codes, and sums to the
// output. Tables are static, or those of a run's clusters (CodedByteEnds).
#pragma once

#include <cstdint>

#include "byte_hash.h"
#include "coded_bytes.h"
#include "gather.h"
#include "pixel_tiles.h"
#include "reuse/plan.h"
#include "reuse/quantised.h"
#include "static_mend.h"
#include "static_tables.h"
#include "tile_hasher.h"

namespace reuse {

constexpr int64_t kLineBytes = 64;

class FloatEnds {
 public:
  using Tables = StaticTables;
  static constexpr bool kBlocksShareLines = false;
  FloatEnds(const ReusePlan& plan, const Blocking& blocking, const float* x, float* y)
      : plan_(plan), blocking_(blocking), x_(x), y_(y) {}

  const Encoder& encoder() const { return plan_.encoder(); }
  const StaticTables& tables() const { return *plan_.static_tables(); }
  int64_t clusters() const { return blocking_.num_blocks() * tables().rows(); }
  // Called once all vectors are encoded, before tables are read.
  void represent(Workspace&) const {}

  // Returns whether all vectors of the tile are finite.
  template <typename Code>
  bool encode(int64_t block, int64_t first, int64_t count, const TileMemory& memory, Code* codes) const {
    const Tile tile = view_tile(blocking_, x_, block, first, count, memory.values);
    return plan_.encoder().narrow_codes(tile, block, memory.scratch, codes);
  }

  // Sums of `count` channels from `channel` on.
  void write(int64_t channel, int64_t count, const PixelTile& tile, bool whole_rows, const simd::Sums& sums,
             int64_t row_sums) const {
    const OutputChannels output{channel, count, plan_.bias(), y_};
    write_tile(blocking_.geometry, plan_.attributes().gather, output, tile, whole_rows, sums, row_sums);
  }

  // Where the tile's sums go in the channels' planes.
  simd::FetchedPlanes lines(int64_t channel, int64_t count, const PixelTile& tile, bool whole_rows) const {
    const ConvGeometry& g = blocking_.geometry;
    if (g.attributes.output_order != DataOrder::kNchw) return {};
    const int64_t row_bytes = g.out_w * static_cast<int64_t>(sizeof(float));
    const int64_t bytes = whole_rows ? tile.rows * row_bytes : tile.columns * int64_t{sizeof(float)};
    int line_bits = 0, row_bits = 0;
    while ((kLineBytes << line_bits) < bytes) ++line_bits;
    while (!whole_rows && (1 << row_bits) < tile.rows) ++row_bits;
    const int64_t pixel = tile.row * g.out_w + tile.column;
    const float* first = y_ + (tile.image * g.out_channels + channel) * g.out_pixels() + pixel;
    return {reinterpret_cast<const uint8_t*>(first),
            count << (line_bits + row_bits),
            line_bits,
            row_bits,
            row_bytes,
            g.out_h * row_bytes};
  }

  void mend(Workspace& workspace) const {
    mend_static_outputs(*plan_.static_tables(), plan_.attributes().gather, blocking_, workspace, plan_.bias(), x_, y_);
  }

 private:
  const ReusePlan& plan_;
  const Blocking& blocking_;
  const float* x_;
  float* y_;
};

// Of bytes, which has no vectors that are not finite.
template <typename BytePlan>
class ByteEnds {
 public:
  static constexpr bool kBlocksShareLines = true;
  ByteEnds(const BytePlan& plan, const Blocking& blocking, const uint8_t* x, uint8_t* y)
      : plan_(plan), blocking_(blocking), x_(x), y_(y) {}

  const Encoder& encoder() const { return plan_.hash().encoder(); }

  void write(int64_t channel, int64_t count, const PixelTile& tile, bool, const simd::Sums& sums,
             int64_t row_sums) const {
    const ConvGeometry& g = blocking_.geometry;
    for (int64_t row = 0; row < tile.rows; ++row) {
      const int64_t pixel = (tile.image * g.out_h + tile.row + row) * g.out_w + tile.column;
      plan_.output().write(channel, count, sums.values + row * row_sums, sums.stride, tile.columns,
                           y_ + pixel * g.out_channels);
    }
  }

  simd::FetchedPlanes lines(int64_t, int64_t, const PixelTile&, bool) const { return {}; }
  void mend(Workspace&) const {}

 protected:
  template <typename Code>
  void hash(int64_t block, int64_t first, int64_t count, const TileMemory& memory, Code* codes) const {
    const ByteHash& own = plan_.hash();
    own.codes(own.vectors(blocking_, x_, block, first, count), block, memory, codes);
  }

  const BytePlan& plan_;
  const Blocking& blocking_;
  const uint8_t* x_;
  uint8_t* y_;
};

class StaticByteEnds : public ByteEnds<StaticBytePlan> {
 public:
  using Tables = StaticTables;
  using ByteEnds::ByteEnds;

  const StaticTables& tables() const { return plan_.tables(); }
  int64_t clusters() const { return blocking_.num_blocks() * tables().rows(); }
  void represent(Workspace&) const {}

  template <typename Code>
  bool encode(int64_t block, int64_t first, int64_t count, const TileMemory& memory, Code* codes) const {
    hash(block, first, count, memory, codes);
    return true;
  }
};

class CodedByteEnds : public ByteEnds<CodedBytePlan> {
 public:
  using Tables = CodedByteTables;
  CodedByteEnds(const CodedBytePlan& plan, const Blocking& blocking, Workspace& workspace, const uint8_t* x, uint8_t* y)
      : ByteEnds(plan, blocking, x, y), tables_(plan, blocking, workspace) {}

  const CodedByteTables& tables() const { return tables_; }
  int64_t clusters() const { return tables_.clusters(); }
  void represent(Workspace& workspace) { tables_.represent(workspace, x_); }

  template <typename Code>
  bool encode(int64_t block, int64_t first, int64_t count, const TileMemory& memory, Code* codes) {
    hash(block, first, count, memory, codes);
    std::copy_n(codes, count, tables_.codes(block) + first);
    return true;
  }

 private:
  CodedByteTables tables_;
};

}  // namespace reuse
