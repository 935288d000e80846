// Numbers of rows: equal rows have one, or two where they were not looked for.
#include "../cpu/byte_rows.h"

#include <algorithm>

#include "support.h"
#include "test.h"

namespace reuse::testing {
namespace {

using Rows = std::vector<uint8_t>;

// Rows as they are in memory, some bytes apart.
class InPlace final : public RowSource {
 public:
  InPlace(const Rows& rows, int64_t row_bytes, int64_t stride) : RowSource(row_bytes), rows_(rows), stride_(stride) {}
  ByteRows read(int64_t first, int64_t, uint8_t*) const override { return {rows_.data() + first * stride_, stride_}; }

 private:
  const Rows& rows_;
  int64_t stride_;
};

// The same, copied.
class Copied final : public RowSource {
 public:
  Copied(const Rows& rows, int64_t row_bytes) : RowSource(row_bytes), rows_(rows) {}
  ByteRows read(int64_t first, int64_t count, uint8_t* room) const override {
    std::copy_n(rows_.begin() + first * row_bytes_, count * row_bytes_, room);
    return {room, row_bytes_};
  }

 private:
  const Rows& rows_;
};

// `count` rows, of which a share of `per_mille` are one of three.
Rows draw_rows(int64_t count, int64_t row_bytes, int64_t per_mille, uint32_t seed) {
  std::mt19937 random(seed);
  const auto draw = [&](int64_t high) { return std::uniform_int_distribution<int64_t>(0, high)(random); };
  Rows rows(static_cast<size_t>(count * row_bytes));
  for (int64_t r = 0; r < count; ++r) {
    const bool common = draw(999) < per_mille;
    const auto same = static_cast<uint8_t>(draw(2));
    for (int64_t i = 0; i < row_bytes; ++i) {
      rows[static_cast<size_t>(r * row_bytes + i)] = common ? same : static_cast<uint8_t>(draw(255));
    }
  }
  return rows;
}

// Each row is the one of its number, and numbers are of first appearance.
void expect_right(const DistinctRows& distinct, const std::vector<int32_t>& numbers, const Rows& rows,
                  int64_t row_bytes) {
  int32_t largest = -1;
  for (size_t r = 0; r < numbers.size(); ++r) {
    EXPECT(numbers[r] >= 0 && numbers[r] <= largest + 1, << numbers[r] << " in row " << r);
    largest = std::max(largest, numbers[r]);
    const uint8_t* const row = rows.data() + static_cast<int64_t>(r) * row_bytes;
    EXPECT(std::equal(row, row + row_bytes, distinct.rows() + numbers[r] * row_bytes), << "in row " << r);
  }
  EXPECT(distinct.count() == largest + 1);
}

std::vector<int32_t> number(DistinctRows& distinct, const RowSource& source, int64_t count, int64_t threads) {
  Threads parallel(threads);
  std::vector<int32_t> numbers(static_cast<size_t>(count));
  distinct.add(parallel, source, 0, count, numbers.data());
  return numbers;
}

}  // namespace

TEST(byte_rows_have_numbers_of_their_bytes) {
  constexpr int64_t kCount = 5000;
  PoisonedAllocator memory;
  for (const int64_t row_bytes : {16, 48, 320}) {
    for (const int64_t per_mille : {0, 500, 1000}) {
      const Rows rows = draw_rows(kCount, row_bytes, per_mille, 5);
      std::vector<int32_t> first;
      for (const int64_t threads : {1, 3}) {
        DistinctRows distinct(memory, row_bytes, Search::kEverywhere);
        const std::vector<int32_t> numbers = number(distinct, Copied(rows, row_bytes), kCount, threads);
        expect_right(distinct, numbers, rows, row_bytes);
        if (per_mille == 1000) EXPECT(distinct.count() == 3);
        if (threads == 1) first = numbers;
        EXPECT(numbers == first);
      }
      DistinctRows distinct(memory, row_bytes, Search::kEverywhere);
      EXPECT(number(distinct, InPlace(rows, row_bytes, row_bytes), kCount, 2) == first);
    }
  }
}

TEST(byte_rows_that_hardly_repeat_are_not_looked_for) {
  constexpr int64_t kCount = 30000, kBytes = 16;
  Rows rows = draw_rows(kCount, kBytes, 20, 6);
  std::fill(rows.end() - 10000 * kBytes, rows.end(), uint8_t{1});  // then they do
  PoisonedAllocator memory;
  DistinctRows all(memory, kBytes, Search::kEverywhere), some(memory, kBytes, Search::kWherePaying);
  expect_right(all, number(all, Copied(rows, kBytes), kCount, 1), rows, kBytes);
  expect_right(some, number(some, Copied(rows, kBytes), kCount, 2), rows, kBytes);
  EXPECT(all.count() < some.count(), << all.count() << " of " << some.count());
  EXPECT(some.count() < kCount - 9000, << some.count());
}

TEST(byte_rows_are_forgotten) {
  constexpr int64_t kCount = 300, kBytes = 32;
  const Rows rows = draw_rows(kCount, kBytes, 1000, 7);
  PoisonedAllocator memory;
  DistinctRows distinct(memory, kBytes, Search::kEverywhere);
  const std::vector<int32_t> first = number(distinct, Copied(rows, kBytes), kCount, 1);
  distinct.forget();
  const std::vector<int32_t> second = number(distinct, Copied(rows, kBytes), kCount, 1);
  EXPECT(distinct.count() == 6);
  for (size_t r = 0; r < first.size(); ++r) EXPECT(second[r] == first[r] + 3, << "in row " << r);
}

}  // namespace reuse::testing
