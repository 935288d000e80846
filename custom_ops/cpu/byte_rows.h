// Rows of bytes that are equal, found out by fingerprint and comparison. A layer's vectors of bytes are such rows, and
// so are its windows, as lists of the vectors that they see.
#pragma once

#include <cstring>

#include "cluster_table.h"
#include "reuse/runtime.h"

namespace reuse {

constexpr int64_t kRowUnit = 16;  // rows have a multiple of so many bytes

// What a source knows of a row without looking for it among the others.
enum class Known : uint8_t { kNothing, kAsBefore, kAsAbove };

// Rows that a source is asked for, and what it tells of them.
struct RowTile {
  int64_t first, count;
  int64_t numbered;      // rows before the first one that these may be equal to
  uint8_t* room;         // [count, row_bytes], which was zeros before the first call
  const uint8_t** rows;  // where those are of which nothing is known; null: only that is asked for
  Known* known;
};

// Where rows come from, many of which are equal to one before, or to one above in an image.
class RowSource {
 public:
  explicit RowSource(int64_t row_bytes) : row_bytes_(row_bytes) {}
  virtual ~RowSource() = default;
  virtual void read(const RowTile& tile) const = 0;
  // Returns where a row is, which may be room that was zeros.
  virtual const uint8_t* row(int64_t index, uint8_t* room) const = 0;
  // How many rows before a row the one above it is.
  virtual int64_t above() const { return 0; }
  int64_t row_bytes() const { return row_bytes_; }

 protected:
  const int64_t row_bytes_;
};

bool are_equal(const uint8_t* a, const uint8_t* b, int64_t row_bytes);

// Distinct rows, numbered by first appearance. Those with the fingerprint of another row are numbers of their own, as
// the guard makes them: each row is compared with one other. So are rows that are not looked for: where less than
// `least_share` of those that were looked for had been there before, the next ones are not.
class DistinctRows {
 public:
  static constexpr int32_t kOutside = -1;

  DistinctRows(Allocator& allocator, int64_t row_bytes, double least_share)
      : least_share_(least_share),
        table_(allocator),
        firsts_(allocator),
        other_(allocator, static_cast<size_t>(row_bytes)) {
    std::memset(other_.data(), 0, other_.size());
  }

  // From here on no row is equal to an earlier one.
  void forget() { table_.reset(); }

  // Writes the numbers of the source's rows first ... first + count - 1.
  void add(Parallel& parallel, const RowSource& source, int64_t first, int64_t count, int32_t* numbers);
  // Returns the number of a row that is none of the source's.
  int32_t add(const RowSource& source, const uint8_t* row);

  int64_t count() const { return static_cast<int64_t>(firsts_.size()); }
  int64_t guarded() const { return guarded_; }
  // By number: the first such row of the source, or kOutside.
  const int32_t* firsts() const { return firsts_.data(); }

 private:
  int32_t number(const RowSource& source, const uint8_t* row, int64_t code, int32_t index);
  int32_t append(int32_t index);

  double least_share_;
  ClusterTable table_;
  Buffer<int32_t> firsts_;
  Buffer<uint8_t> other_;  // a row that is compared with
  int64_t guarded_ = 0;
};

}  // namespace reuse
