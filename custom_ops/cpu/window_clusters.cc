#include "window_clusters.h"

#include <algorithm>
#include <memory>

#include "block_numbering.h"
#include "heuristics.h"
#include "member_sums.h"
#include "simd/kernels.h"
#include "window_rows.h"

namespace reuse {
namespace {

// Hashes rows, in the order that the family likes best.
class WindowHasher {
 public:
  WindowHasher(Allocator& allocator, const Blocking& blocking, const HashAttributes& attributes,
               const HashParameters& parameters, int64_t block)
      : attributes_(attributes),
        parameters_(parameters),
        block_(block),
        length_(blocking.sub_vector_length()),
        block_length_(blocking.block_length(block)),
        by_rows_(attributes.family->row_hasher(allocator, block, attributes.num_hashes, parameters, blocking.vectors)),
        values_(allocator),
        scratch_(allocator) {
    if (by_rows_) return;
    values_.resize(static_cast<size_t>(length_ * kTileVectors));
    scratch_.resize(static_cast<size_t>(attributes.family->scratch_floats(length_, attributes.num_hashes)));
  }

  void hash(const Rows& rows, int64_t* codes) {
    if (by_rows_) return by_rows_->codes(rows, codes);
    simd::kernels().transpose_rows(rows.values, rows.stride, block_length_, rows.count, kTileVectors * rows.stride,
                                   values_.data(), kTileVectors);
    attributes_.family->codes({values_.data(), kTileVectors, block_length_, rows.count}, block_, length_,
                              attributes_.num_hashes, parameters_, scratch_.data(), codes);
  }

 private:
  const HashAttributes& attributes_;
  const HashParameters& parameters_;
  int64_t block_, length_, block_length_;
  std::unique_ptr<RowHasher> by_rows_;
  Buffer<float> values_, scratch_;
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

BlockClusters cluster_windows(Allocator& allocator, const Blocking& blocking, const HashAttributes& hash_attributes,
                              const HashParameters& parameters, const ClusterAttributes& attributes, const float* x,
                              int64_t block, int32_t* ids) {
  WindowRows windows(allocator, blocking, x, block);
  WindowHasher hasher(allocator, blocking, hash_attributes, parameters, block);
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
