// What a ReuseState is made of, and how a run sees it and adds to it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cluster_table.h"
#include "reuse/operators.h"
#include "reuse/state.h"

namespace reuse {

// The elements of a kept cluster: its centroid, and the pieces of its table row by tile of output channels, if tables
// are kept. `bytes` is what it counts for.
struct RowShape {
  int64_t length;
  std::vector<int64_t> widths;
  int64_t bytes;
};

// Memory for the centroids and table rows of all blocks' clusters, so that a row's number is all that a gather needs to
// know, whichever run has written it. Rows are taken and given back under the state's lock. A row is written by who has
// taken it, and not again once it belongs to a kept cluster.
class RowPool {
 public:
  RowPool(Allocator& allocator, const RowShape& shape, int64_t capacity);

  int64_t capacity() const { return static_cast<int64_t>(taken_.size()); }
  float* centroid(int64_t row) { return piece(0, row); }
  float* table(int64_t tile, int64_t row) { return piece(static_cast<size_t>(tile) + 1, row); }

  // Takes that many rows in succession and returns the first; -1 if there are not so many.
  int64_t take(int64_t count);
  void give_back(int64_t row);
  // Takes a row for the contents of another one.
  void copy_row(RowPool& from, int64_t from_row, int64_t to_row);

 private:
  float* piece(size_t index, int64_t row) { return pieces_[index].data() + row * widths_[index]; }

  std::vector<int64_t> widths_;  // of the pieces
  std::vector<Buffer<float>> pieces_;
  std::vector<uint8_t> taken_;  // by row
  int64_t first_free_ = 0;      // no row before is free
};

// Kept clusters of one block, in the order in which they joined.
struct KeptBlock {
  explicit KeptBlock(Allocator& allocator) : places(allocator) {}
  ClusterTable places;  // in this order, by code
  std::vector<int64_t> codes;
  std::vector<int32_t> rows;

  int64_t count() const { return static_cast<int64_t>(codes.size()); }
  // Makes room for these codes: adding them throws nothing.
  void make_room(const std::vector<int64_t>& fresh);
  void add(int64_t code, int32_t row);
};

// Those of all blocks: of none before the first run.
struct KeptClusters {
  std::vector<KeptBlock> blocks;
  int64_t group_width = 0;  // Blocking::group_width
  int64_t bytes = 0;        // RowShape::bytes
  int64_t count = 0;        // of all blocks
};

// Clusters of one block that a run made, in the order of first appearance.
struct NewClusters {
  BlockClusters clusters;
  std::vector<int64_t> codes;   // by cluster
  std::vector<uint8_t> shared;  // by cluster: not one of the guard's, which are not kept
  int64_t known;                // vectors that took a kept cluster
};

// Rows in succession.
struct RowRange {
  int64_t first = 0, count = 0;
};

// One run's dealings with a state.
class KeptRun {
 public:
  // The run begins. Throws std::invalid_argument for another number of blocks than earlier runs had.
  KeptRun(ReuseState& state, const Blocking& blocking, RowShape shape);
  // The run has ended: what it has not added is forgotten.
  ~KeptRun();
  KeptRun(const KeptRun&) = delete;
  KeptRun& operator=(const KeptRun&) = delete;

  // What was kept when the run began.
  const KeptBlock& block(int64_t b) const { return kept_->blocks[static_cast<size_t>(b)]; }
  int64_t num_rows() const { return pool_ == nullptr ? 0 : pool_->capacity(); }
  RowPool& pool() const { return *pool_; }  // once there are rows

  // Takes rows for the new clusters of all blocks, and writes their centroids there: for those that may be kept, and if
  // there is room for them, for the others, too. Returns whether all have a row.
  bool take_rows(const std::vector<NewClusters>& found);
  // By new cluster of a block, -1 for none.
  const std::vector<int32_t>& new_rows(int64_t block) const { return rows_[static_cast<size_t>(block)]; }
  // The same rows: two ranges by block, or none at all.
  const std::vector<RowRange>& row_ranges() const { return ranges_; }

  // Adds to the state what has a row and is still unknown, as far as its memory goes.
  void add(const std::vector<NewClusters>& found);

 private:
  int64_t limit() const { return state_.memory_ / shape_.bytes; }
  bool fits(const KeptClusters& kept) const;
  void prepare(KeptClusters& kept) const;
  std::shared_ptr<RowPool> enlarged(const KeptClusters& kept, RowPool* pool, int64_t count) const;
  int64_t take_in_state(int64_t count);
  void hand_out(const std::vector<NewClusters>& found, int64_t kept, bool with_others);

  ReuseState& state_;
  RowShape shape_;
  size_t num_blocks_;
  int64_t group_width_, resets_;
  std::shared_ptr<KeptClusters> kept_;
  std::shared_ptr<RowPool> pool_;
  RowRange own_;                // taken
  std::vector<uint8_t> added_;  // which of these belong to kept clusters by now
  std::vector<std::vector<int32_t>> rows_;
  std::vector<RowRange> ranges_;  // two by block
};

}  // namespace reuse
