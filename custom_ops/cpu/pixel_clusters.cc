#include "pixel_clusters.h"

#include <algorithm>
#include <memory>
#include <numeric>

#include "block_numbering.h"
#include "heuristics.h"
#include "member_sums.h"
#include "simd/kernels.h"
#include "tile.h"
#include "tile_hasher.h"

namespace reuse {
namespace {

// One block's clusters as far as they are known.
class PixelClusters {
 public:
  PixelClusters(Allocator& allocator, const Blocking& blocking, const Encoder& encoder,
                const ClusterAttributes& attributes, int64_t block, int32_t* ids)
      : encoder_(encoder),
        block_(block),
        numbering_(allocator, blocking, attributes, block),
        sums_(allocator, blocking.block_length(block), blocking.vectors),
        ids_(ids) {}

  void start_unit() { numbering_.start_unit(); }

  // Adds the vectors from `first` on; `scratch` is the encoder's.
  void add(const Tile& tile, int64_t first, float* scratch) {
    int64_t codes[kTileVectors];
    uint8_t finite[kTileVectors];
    hash_tile(encoder_, tile, block_, scratch, codes, finite);
    numbering_.add({tile, codes, finite}, ids_ + first);
    sums_.add(tile, ids_ + first, numbering_.count());
  }

  BlockClusters finish(int64_t length, int64_t block_length) {
    BlockClusters clusters = numbering_.finish();
    sums_.write_means(length, block_length, clusters);
    return clusters;
  }

 private:
  const Encoder& encoder_;
  int64_t block_;
  BlockNumbering numbering_;
  MemberSums sums_;
  int32_t* ids_;
};

}  // namespace

bool pixels_in_one_pass(const Blocking& blocking, const ClusterAttributes& attributes) {
  const int64_t together = pixel_blocks_together(blocking);
  const int64_t tasks = (blocking.num_blocks() + together - 1) / together;
  return blocking.geometry.attributes.input_order == DataOrder::kNhwc && !attributes.verify &&
         attributes.metric == Metric::kEuclidean && blocking.sub_vector_length() <= simd::kMemberStrip &&
         tasks >= kPixelTasksToShareOut;
}

int64_t pixel_blocks_together(const Blocking& blocking) {
  const int64_t length = blocking.sub_vector_length();
  if (length >= simd::kLanes) return 1;
  // Whole lines, if not too many of them are needed for that.
  const int64_t whole = simd::kLanes / std::gcd(length, simd::kLanes);
  return whole * length <= kMostPixelChannels ? whole : simd::kLanes / length;
}

std::vector<BlockClusters> cluster_pixels(Allocator& allocator, const Blocking& blocking, const Encoder& encoder,
                                          const ClusterAttributes& attributes, const float* x, BlockRange blocks,
                                          int32_t* ids) {
  std::vector<std::unique_ptr<PixelClusters>> own;
  for (int64_t b = blocks.begin; b < blocks.end; ++b) {
    own.push_back(
        std::make_unique<PixelClusters>(allocator, blocking, encoder, attributes, b, ids + b * blocking.vectors));
  }
  const int64_t channel = blocking.first_channel(blocks.begin), last = blocks.end - 1;
  const int64_t channels = blocking.first_channel(last) + blocking.block_length(last) - channel;
  const Placed<TileMemory> memory(allocator, channels, encoder);
  const int64_t unit = attributes.scope == Scope::kImage ? blocking.geometry.in_pixels() : blocking.vectors;
  for (int64_t start = 0; start < blocking.vectors; start += unit) {
    for (const auto& block : own) block->start_unit();
    for (int64_t first = start; first < start + unit; first += kTileVectors) {
      const int64_t count = std::min(kTileVectors, start + unit - first);
      load_tile(blocking, x, blocks.begin, {0, channels}, first, count, memory->values);
      for (int64_t b = blocks.begin; b < blocks.end; ++b) {
        const float* own_values = memory->values + (blocking.first_channel(b) - channel) * kTileVectors;
        own[static_cast<size_t>(b - blocks.begin)]->add({own_values, kTileVectors, blocking.block_length(b), count},
                                                        first, memory->scratch);
      }
    }
  }
  std::vector<BlockClusters> result;
  for (int64_t b = blocks.begin; b < blocks.end; ++b) {
    result.push_back(
        own[static_cast<size_t>(b - blocks.begin)]->finish(blocking.sub_vector_length(), blocking.block_length(b)));
  }
  return result;
}

}  // namespace reuse
