// Packing of weights into the panels that centroids are multiplied with.
#include <algorithm>
#include <cmath>

#include "heuristics.h"
#include "reuse/operators.h"
#include "simd/kernels.h"

namespace reuse {
namespace {

int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Writes one panel: strips of kLanes columns (tap and channel of the tile), each with the elements of the block.
void fill_panel(const Blocking& blocking, const float* weights, int64_t block, int64_t first_channel, int64_t channels,
                int64_t padded, float* panel) {
  const ConvGeometry& g = blocking.geometry;
  const int64_t in_channels = g.group_in_channels(), taps = g.taps();
  const int64_t out_channel = blocking.group_of(block) * g.group_out_channels() + first_channel;
  const bool patch = blocking.layout() == Layout::kPatch;
  for (int64_t l = 0; l < blocking.block_length(block); ++l) {
    const int64_t position = blocking.block_start(block) + l;
    const int64_t in_channel = patch ? position % in_channels : position;
    for (int64_t t = 0; t < blocking.taps_per_block(); ++t) {
      const int64_t tap = patch ? position / in_channels : t;
      for (int64_t c = 0; c < channels; ++c) {
        const int64_t column = t * padded + c;
        const int64_t strip = column / simd::kLanes * blocking.sub_vector_length();
        panel[(strip + l) * simd::kLanes + column % simd::kLanes] =
            weights[((out_channel + c) * in_channels + in_channel) * taps + tap];
      }
    }
  }
}

// The largest norm, over the taps, of the weights of one block and output channel.
double largest_norm(const Blocking& blocking, const float* panel, int64_t channel, int64_t padded) {
  const int64_t length = blocking.sub_vector_length();
  double largest = 0.0;
  for (int64_t tap = 0; tap < blocking.taps_per_block(); ++tap) {
    const int64_t column = tap * padded + channel;
    const float* values = panel + column / simd::kLanes * length * simd::kLanes + column % simd::kLanes;
    double squares = 0.0;
    for (int64_t l = 0; l < length; ++l) {
      const double value = values[l * simd::kLanes];
      squares += value * value;
    }
    largest = std::max(largest, std::sqrt(squares));
  }
  return largest;
}

}  // namespace

PackedWeights::PackedWeights(Allocator& allocator, const Blocking& blocking, TableType table, const float* weights)
    : PackedWeights(allocator, blocking, table, weights,
                    table == TableType::kInt8 ? simd::kInt8Channels : kTileChannels,
                    table == TableType::kInt8 ? simd::kInt8Channels : simd::kLanes) {}

PackedWeights::PackedWeights(Allocator& allocator, const Blocking& blocking, const float* weights)
    : PackedWeights(allocator, blocking, TableType::kFloat, weights, blocking.geometry.group_out_channels(), 1) {}

PackedWeights::PackedWeights(Allocator& allocator, const Blocking& blocking, TableType table, const float* weights,
                             int64_t tile_channels, int64_t padding)
    : table_(table),
      channels_(blocking.geometry.group_out_channels()),
      tile_channels_(std::min(tile_channels, channels_)),
      padding_(padding),
      num_tiles_((channels_ + tile_channels_ - 1) / tile_channels_),
      taps_(blocking.taps_per_block()),
      data_(allocator) {
  const int64_t length = blocking.sub_vector_length();
  int64_t size = 0;
  for (int64_t block = 0; block < blocking.num_blocks(); ++block) {
    for (int64_t tile = 0; tile < num_tiles_; ++tile) {
      offsets_.push_back(size);
      size += length * panel_stride(tile);
    }
  }
  data_.resize(static_cast<size_t>(size));
  std::fill_n(data_.data(), size, 0.0f);
  for (int64_t block = 0; block < blocking.num_blocks(); ++block) {
    for (int64_t tile = 0; tile < num_tiles_; ++tile) {
      fill_panel(blocking, weights, block, tile_start(tile), tile_size(tile), padded_size(tile),
                 data_.data() + offsets_[static_cast<size_t>(block * num_tiles_ + tile)]);
    }
  }
  if (table == TableType::kInt8) find_norms(blocking);
}

void PackedWeights::find_norms(const Blocking& blocking) {
  norms_.resize(static_cast<size_t>(blocking.num_blocks() * num_tiles_ * tile_channels_), 0.0);
  for (int64_t block = 0; block < blocking.num_blocks(); ++block) {
    for (int64_t tile = 0; tile < num_tiles_; ++tile) {
      for (int64_t c = 0; c < tile_size(tile); ++c) {
        norms_[static_cast<size_t>((block * num_tiles_ + tile) * tile_channels_ + c)] =
            largest_norm(blocking, panel(block, tile), c, padded_size(tile));
      }
    }
  }
}

int64_t PackedWeights::tile_size(int64_t tile) const { return std::min(tile_channels_, channels_ - tile_start(tile)); }

int64_t PackedWeights::padded_size(int64_t tile) const { return round_up(tile_size(tile), padding_); }

int64_t PackedWeights::panel_stride(int64_t tile) const { return round_up(panel_width(tile), simd::kLanes); }

}  // namespace reuse
