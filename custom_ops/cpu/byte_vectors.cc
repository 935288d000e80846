#include "byte_vectors.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "byte_weights.h"
#include "heuristics.h"
#include "pieces.h"
#include "stopwatch.h"

namespace reuse {
namespace {

// Neighbouring channels of each pixel (layout channel).
class PixelSource final : public RowSource {
 public:
  PixelSource(const Blocking& blocking, int64_t row_bytes, const uint8_t* x, int64_t block)
      : RowSource(row_bytes),
        x_(x + blocking.first_channel(block)),
        stride_(blocking.geometry.in_channels),
        width_(blocking.geometry.in_w),
        length_(blocking.block_length(block)) {}

  int64_t above() const override { return width_; }

  void read(const RowTile& tile) const override {
    const uint8_t* row = x_ + tile.first * stride_;
    for (int64_t p = 0; p < tile.count; ++p, row += stride_) {
      tile.known[p] = known_of(row, tile.numbered + p);
      if (tile.known[p] != Known::kNothing || tile.rows == nullptr) continue;
      tile.rows[p] = this->row(tile.first + p, tile.room + p * row_bytes_);
    }
  }

  const uint8_t* row(int64_t index, uint8_t* room) const override {
    const uint8_t* const own = x_ + index * stride_;
    if (length_ == row_bytes_) return own;
    std::memcpy(room, own, static_cast<size_t>(length_));
    return room;
  }

 private:
  Known known_of(const uint8_t* row, int64_t numbered) const {
    if (numbered > 0 && is_equal(row, row - stride_)) return Known::kAsBefore;
    if (numbered >= width_ && is_equal(row, row - width_ * stride_)) return Known::kAsAbove;
    return Known::kNothing;
  }

  bool is_equal(const uint8_t* a, const uint8_t* b) const {
    if (length_ == row_bytes_) return are_equal(a, b, row_bytes_);
    return std::memcmp(a, b, static_cast<size_t>(length_)) == 0;
  }

  const uint8_t* x_;
  int64_t stride_, width_, length_;
};

// Columns of the unfolded input in the order (kh, kw, c), with zero points for padding (layout patch).
class PatchSource final : public RowSource {
 public:
  PatchSource(const Blocking& blocking, int64_t row_bytes, const uint8_t* x, int64_t block, uint8_t zero_point)
      : RowSource(row_bytes),
        geometry_(blocking.geometry),
        x_(x + blocking.group_of(block) * blocking.geometry.group_in_channels()),
        start_(blocking.block_start(block)),
        length_(blocking.block_length(block)),
        zero_point_(zero_point) {}

  void read(const RowTile& tile) const override {
    for (int64_t p = 0; p < tile.count; ++p) {
      uint8_t* const own = tile.room + p * row_bytes_;
      row(tile.first + p, own);
      if (tile.rows != nullptr) tile.rows[p] = own;
      const bool repeats = p > 0 && are_equal(own, own - row_bytes_, row_bytes_);
      tile.known[p] = repeats ? Known::kAsBefore : Known::kNothing;
    }
  }

  const uint8_t* row(int64_t index, uint8_t* room) const override {
    const ConvGeometry& g = geometry_;
    const ConvAttributes& a = g.attributes;
    const int64_t channels = g.group_in_channels();
    const int64_t image = index / g.out_pixels(), pixel = index % g.out_pixels();
    for (int64_t l = 0; l < length_;) {
      const int64_t tap = (start_ + l) / channels, channel = (start_ + l) % channels;
      const int64_t piece = std::min(channels - channel, length_ - l);
      const int64_t y = pixel / g.out_w * a.stride_h - a.pad_top + tap / a.kernel_w * a.dilation_h;
      const int64_t x = pixel % g.out_w * a.stride_w - a.pad_left + tap % a.kernel_w * a.dilation_w;
      if (y < 0 || y >= g.in_h || x < 0 || x >= g.in_w) {
        std::memset(room + l, zero_point_, static_cast<size_t>(piece));
      } else {
        const uint8_t* const source = x_ + ((image * g.in_h + y) * g.in_w + x) * g.in_channels + channel;
        std::memcpy(room + l, source, static_cast<size_t>(piece));
      }
      l += piece;
    }
    return room;
  }

 private:
  const ConvGeometry& geometry_;
  const uint8_t* x_;
  int64_t start_, length_;
  uint8_t zero_point_;
};

// Whether taps of a layer's windows are outside of its image.
bool has_padding(const Blocking& blocking) {
  const ConvGeometry& g = blocking.geometry;
  const ConvAttributes& a = g.attributes;
  const auto beyond = [](int64_t out, int64_t stride, int64_t pad, int64_t reach, int64_t in) {
    return pad > 0 || (out - 1) * stride + reach >= in;
  };
  return blocking.layout() == Layout::kChannel &&
         (beyond(g.out_h, a.stride_h, a.pad_top, (a.kernel_h - 1) * a.dilation_h, g.in_h) ||
          beyond(g.out_w, a.stride_w, a.pad_left, (a.kernel_w - 1) * a.dilation_w, g.in_w));
}

// Finds or copies the distinct vectors of a block. `outside` is what padding sees, as weights are multiplied with it.
void take_vectors(const QuantisedPlan& plan, const Blocking& blocking, int64_t block, const RowSource& source,
                  const DistinctRows& distinct, const uint8_t* outside, Parallel& parallel, BlockVectors& to) {
  const int64_t row_bytes = source.row_bytes(), length = blocking.block_length(block), count = distinct.count();
  const bool in_place = are_whole_rows(plan, blocking) && 4 * count > blocking.vectors;
  to.rows.resize(static_cast<size_t>(count));
  if (!in_place) to.copies.resize(static_cast<size_t>(count * row_bytes));
  for_pieces(parallel, count, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int32_t first = distinct.firsts()[i];
      const uint8_t*& row = to.rows[static_cast<size_t>(i)];
      if (first == DistinctRows::kOutside) {
        row = outside;
      } else if (in_place) {
        row = source.row(first, nullptr);
      } else {
        uint8_t* const copy = to.copies.data() + i * row_bytes;
        std::memset(copy, 0, static_cast<size_t>(row_bytes));
        const uint8_t* const own = source.row(first, copy);
        if (own != copy) std::memcpy(copy, own, static_cast<size_t>(row_bytes));
        for (int64_t l = 0; plan.x_flip() != 0 && l < length; ++l) copy[l] ^= plan.x_flip();
        row = copy;
      }
    }
  });
}

}  // namespace

bool are_whole_rows(const QuantisedPlan& plan, const Blocking& blocking) {
  const int64_t length = blocking.sub_vector_length();
  return blocking.layout() == Layout::kChannel && plan.x_flip() == 0 && length == plan.weights().row_bytes() &&
         blocking.group_width % length == 0;
}

std::unique_ptr<RowSource> vectors_of_block(const QuantisedPlan& plan, const Blocking& blocking, const uint8_t* x,
                                            int64_t block) {
  const int64_t row_bytes = plan.weights().row_bytes();
  if (blocking.layout() == Layout::kChannel) return std::make_unique<PixelSource>(blocking, row_bytes, x, block);
  return std::make_unique<PatchSource>(blocking, row_bytes, x, block, plan.x_zero_point());
}

ByteVectors find_byte_vectors(const QuantisedPlan& plan, const Blocking& blocking, Workspace& workspace,
                              const uint8_t* x) {
  Stopwatch watch(workspace.statistics.hash_ns);
  const int64_t blocks = blocking.num_blocks(), row_bytes = plan.weights().row_bytes();
  const int64_t images = blocking.geometry.batch, units = plan.scope() == Scope::kImage ? images : 1;
  const double least = least_found_share(blocking.geometry.columns() * blocking.geometry.group_out_channels());
  const bool padded = has_padding(blocking);
  std::atomic<int64_t> clusters{0}, guarded{0};
  ByteVectors found{{}, Buffer<int32_t>(workspace, static_cast<size_t>(blocks * blocking.vectors)), {}, {}};
  if (padded) {
    found.padding.resize(static_cast<size_t>(blocks));
    found.outside.resize(static_cast<size_t>(blocks * row_bytes), 0);
  }
  std::vector<DistinctRows> distinct;
  for (int64_t b = 0; b < blocks; ++b) {
    distinct.emplace_back(workspace, row_bytes, least);
    found.blocks.emplace_back(workspace);
  }
  const auto find = [&](int64_t block, Parallel& parallel) {
    const std::unique_ptr<const RowSource> source = vectors_of_block(plan, blocking, x, block);
    DistinctRows& own = distinct[static_cast<size_t>(block)];
    for (int64_t unit = 0; unit < units; ++unit) {
      const int64_t of_unit = blocking.vectors / units, first = unit * of_unit;
      own.forget();
      own.add(parallel, *source, first, of_unit, found.ids.data() + block * blocking.vectors + first);
    }
    clusters += own.count();
    guarded += own.guarded();
    uint8_t* outside = nullptr;
    if (padded) {
      // Padding is pixels of zero points, whose products are nothing.
      const int64_t length = blocking.block_length(block);
      outside = found.outside.data() + block * row_bytes;
      std::fill_n(outside, length, plan.x_zero_point());
      found.padding[static_cast<size_t>(block)] = own.add(*source, outside);
      for (int64_t l = 0; l < length; ++l) outside[l] ^= plan.x_flip();
    }
    take_vectors(plan, blocking, block, *source, own, outside, parallel, found.blocks[static_cast<size_t>(block)]);
  };
  // Of many blocks each is a task, of few their tiles.
  if (blocks < kBlocksToShareOut) {
    for (int64_t b = 0; b < blocks; ++b) find(b, workspace.parallel);
  } else {
    workspace.parallel.run(blocks, [&](int64_t block) {
      InTurn in_turn;
      find(block, in_turn);
    });
  }
  workspace.statistics.clusters += clusters;
  workspace.statistics.guarded += guarded;
  return found;
}

}  // namespace reuse
