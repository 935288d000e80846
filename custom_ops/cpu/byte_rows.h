// Rows of bytes that are equal, found out by fingerprint and comparison. A layer's vectors of bytes are such rows, and
// so are its windows, as lists of the vectors that they see.
#pragma once

#include "cluster_table.h"
#include "reuse/runtime.h"

namespace reuse {

constexpr int64_t kRowUnit = 16;  // rows have a multiple of so many bytes

struct ByteRows {
  const uint8_t* first;
  int64_t stride;  // bytes
};

// Where rows come from: those that are asked for are in memory as they are, or are written to `room`, [count,
// row_bytes], which was zeros before the first call.
class RowSource {
 public:
  explicit RowSource(int64_t row_bytes) : row_bytes_(row_bytes) {}
  virtual ~RowSource() = default;
  virtual ByteRows read(int64_t first, int64_t count, uint8_t* room) const = 0;
  int64_t row_bytes() const { return row_bytes_; }

 protected:
  const int64_t row_bytes_;
};

// Whether equal rows are looked for everywhere, or not where there were few lately: then some are two numbers.
enum class Search { kEverywhere, kWherePaying };

// Distinct rows, numbered by first appearance. Those with the fingerprint of another row are numbers of their own, as
// the guard makes them: each row is compared with one other.
class DistinctRows {
 public:
  DistinctRows(Allocator& allocator, int64_t row_bytes, Search search)
      : row_bytes_(row_bytes), search_(search), table_(allocator), rows_(allocator) {}

  // From here on no row is equal to an earlier one.
  void forget() { table_.reset(); }

  // Writes the numbers of the source's rows first ... first + count - 1.
  void add(Parallel& parallel, const RowSource& source, int64_t first, int64_t count, int32_t* numbers);
  int32_t add(const uint8_t* row);

  const uint8_t* rows() const { return rows_.data(); }  // [count, row_bytes]
  uint8_t* rows() { return rows_.data(); }
  int64_t count() const { return count_; }
  int64_t guarded() const { return guarded_; }

 private:
  int32_t number(const uint8_t* row, int64_t code);
  int32_t append(const uint8_t* row);

  int64_t row_bytes_;
  Search search_;
  ClusterTable table_;
  Buffer<uint8_t> rows_;
  int64_t count_ = 0, guarded_ = 0;
};

}  // namespace reuse
