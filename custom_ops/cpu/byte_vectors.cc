#include "byte_vectors.h"

#include <algorithm>
#include <cstring>

#include "byte_weights.h"
#include "heuristics.h"
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
        length_(blocking.block_length(block)) {}

  ByteRows read(int64_t first, int64_t count, uint8_t* room) const override {
    const uint8_t* const source = x_ + first * stride_;
    if (length_ == row_bytes_) return {source, stride_};
    for (int64_t p = 0; p < count; ++p) {
      std::memcpy(room + p * row_bytes_, source + p * stride_, static_cast<size_t>(length_));
    }
    return {room, row_bytes_};
  }

 private:
  const uint8_t* x_;
  int64_t stride_, length_;
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

  ByteRows read(int64_t first, int64_t count, uint8_t* room) const override {
    const ConvGeometry& g = geometry_;
    const ConvAttributes& a = g.attributes;
    const int64_t channels = g.group_in_channels();
    for (int64_t p = 0; p < count; ++p) {
      const int64_t image = (first + p) / g.out_pixels(), pixel = (first + p) % g.out_pixels();
      uint8_t* row = room + p * row_bytes_;
      for (int64_t l = 0; l < length_;) {
        const int64_t tap = (start_ + l) / channels, channel = (start_ + l) % channels;
        const int64_t piece = std::min(channels - channel, length_ - l);
        const int64_t y = pixel / g.out_w * a.stride_h - a.pad_top + tap / a.kernel_w * a.dilation_h;
        const int64_t x = pixel % g.out_w * a.stride_w - a.pad_left + tap % a.kernel_w * a.dilation_w;
        if (y < 0 || y >= g.in_h || x < 0 || x >= g.in_w) {
          std::memset(row + l, zero_point_, static_cast<size_t>(piece));
        } else {
          const uint8_t* const source = x_ + ((image * g.in_h + y) * g.in_w + x) * g.in_channels + channel;
          std::memcpy(row + l, source, static_cast<size_t>(piece));
        }
        l += piece;
      }
    }
    return {room, row_bytes_};
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

}  // namespace

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
  ByteVectors found{{}, Buffer<int32_t>(workspace, static_cast<size_t>(blocks * blocking.vectors)), {}};
  for (int64_t b = 0; b < blocks; ++b) found.blocks.emplace_back(workspace, row_bytes, Search::kEverywhere);
  const auto find = [&](int64_t block, Parallel& parallel) {
    const std::unique_ptr<const RowSource> source = vectors_of_block(plan, blocking, x, block);
    DistinctRows& own = found.blocks[static_cast<size_t>(block)];
    for (int64_t unit = 0; unit < units; ++unit) {
      const int64_t of_unit = blocking.vectors / units, first = unit * of_unit;
      own.forget();
      own.add(parallel, *source, first, of_unit, found.ids.data() + block * blocking.vectors + first);
    }
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
  for (const DistinctRows& own : found.blocks) {
    workspace.statistics.clusters += own.count();
    workspace.statistics.guarded += own.guarded();
  }
  // Padding is pixels of zero points, whose products are nothing.
  if (has_padding(blocking)) {
    std::vector<uint8_t> pixel(static_cast<size_t>(row_bytes), 0);
    for (int64_t b = 0; b < blocks; ++b) {
      std::fill_n(pixel.begin(), blocking.block_length(b), plan.x_zero_point());
      std::fill(pixel.begin() + blocking.block_length(b), pixel.end(), uint8_t{0});
      found.padding.push_back(found.blocks[static_cast<size_t>(b)].add(pixel.data()));
    }
  }
  if (plan.x_flip() != 0) {
    for (int64_t b = 0; b < blocks; ++b) {
      DistinctRows& own = found.blocks[static_cast<size_t>(b)];
      const int64_t length = blocking.block_length(b);
      for (uint8_t* row = own.rows(); row < own.rows() + own.count() * row_bytes; row += row_bytes) {
        for (int64_t l = 0; l < length; ++l) row[l] ^= plan.x_flip();
      }
    }
  }
  return found;
}

}  // namespace reuse
