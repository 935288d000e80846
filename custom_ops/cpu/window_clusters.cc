#include "window_clusters.h"

#include <algorithm>
#include <optional>

#include "block_numbering.h"
#include "heuristics.h"
#include "member_sums.h"
#include "simd/kernels.h"
#include "tile_hasher.h"
#include "window_rows.h"

namespace reuse {
namespace {

// Hashes rows, in the order that the family likes best.
class WindowHasher {
 public:
  WindowHasher(Allocator& allocator, const Blocking& blocking, const Encoder& encoder, int64_t block)
      : encoder_(encoder), block_(block), block_length_(blocking.block_length(block)) {
    if (encoder.by_rows() == nullptr) memory_.emplace(allocator, blocking.sub_vector_length(), encoder);
  }

  void hash(const Rows& rows, int64_t* codes) const {
    if (!memory_) return encoder_.by_rows()->codes(rows, block_, codes);
    const TileMemory& memory = **memory_;
    simd::kernels().transpose_rows(rows.values, rows.stride, block_length_, rows.count, kTileVectors * rows.stride,
                                   memory.values, kTileVectors);
    encoder_.codes({memory.values, kTileVectors, block_length_, rows.count}, block_, memory.scratch, codes);
  }

 private:
  const Encoder& encoder_;
  int64_t block_, block_length_;
  std::optional<Placed<TileMemory>> memory_;
};

// Writes whether each row is finite.
void check_finite(const WindowRows& windows, const Rows& rows, uint8_t* finite) {
  if (windows.all_finite()) {
    std::fill_n(finite, rows.count, uint8_t{1});
    return;
  }
  simd::kernels().all_finite_rows(rows.values, rows.stride, rows.length, rows.count, finite);
}

}  // namespace

bool windows_in_one_pass(const Blocking& blocking, const ClusterAttributes& attributes) {
  return blocking.layout() == Layout::kPatch && !attributes.verify && attributes.metric == Metric::kEuclidean &&
         blocking.sub_vector_length() <= kOnePassElements;
}

BlockClusters cluster_windows(Allocator& allocator, const Blocking& blocking, const Encoder& encoder,
                              const ClusterAttributes& attributes, const float* x, int64_t block, int32_t* ids) {
  WindowRows windows(allocator, blocking, x, block);
  const WindowHasher hasher(allocator, blocking, encoder, block);
  MemberSums sums(allocator, blocking.block_length(block), blocking.vectors);
  int64_t codes[kTileVectors];
  uint8_t finite[kTileVectors];
  Rows rows{};
  const auto read = [&](int64_t first, int64_t count) {
    rows = windows.read(first, count);
    hasher.hash(rows, codes);
    check_finite(windows, rows, finite);
    return CodedTile{Tile{nullptr, 0, 0, count}, codes, finite};
  };
  const auto numbered = [&](int64_t first, int64_t, int64_t clusters) { sums.add(rows, ids + first, clusters); };
  BlockClusters result = number_block(allocator, blocking, attributes, block, ids, read, numbered);
  sums.write_means(blocking.sub_vector_length(), blocking.block_length(block), result);
  return result;
}

}  // namespace reuse
