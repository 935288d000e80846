// Numbers of rows: equal rows have one, or two where they were not looked for.
#include "../cpu/byte_rows.h"

#include <algorithm>

#include "support.h"
#include "test.h"

namespace reuse::testing {
namespace {

using Rows = std::vector<uint8_t>;

// Rows as they are in memory; it tells of those that are equal to the one before or to the one `above`.
class InPlace final : public RowSource {
 public:
  InPlace(const Rows& rows, int64_t row_bytes, int64_t above = 0) : RowSource(row_bytes), rows_(rows), above_(above) {}
  int64_t above() const override { return above_; }
  const uint8_t* row(int64_t index, uint8_t*) const override { return rows_.data() + index * row_bytes_; }
  void read(const RowTile& tile) const override {
    for (int64_t r = 0; r < tile.count; ++r) {
      const uint8_t* const own = rows_.data() + (tile.first + r) * row_bytes_;
      const auto is_known = [&](int64_t back) {
        return back > 0 && back <= tile.numbered + r && are_equal(own, own - back * row_bytes_, row_bytes_);
      };
      tile.known[r] = is_known(1) ? Known::kAsBefore : is_known(above_) ? Known::kAsAbove : Known::kNothing;
      if (tile.rows != nullptr) tile.rows[r] = own;
    }
  }

 private:
  const Rows& rows_;
  int64_t above_;
};

// The same, copied, of which it tells nothing.
class Copied final : public RowSource {
 public:
  Copied(const Rows& rows, int64_t row_bytes) : RowSource(row_bytes), rows_(rows) {}
  const uint8_t* row(int64_t index, uint8_t* room) const override {
    std::copy_n(rows_.begin() + index * row_bytes_, row_bytes_, room);
    return room;
  }
  void read(const RowTile& tile) const override {
    for (int64_t r = 0; r < tile.count; ++r) {
      tile.known[r] = Known::kNothing;
      if (tile.rows != nullptr) tile.rows[r] = row(tile.first + r, tile.room + r * row_bytes_);
    }
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

// Each row is the first one of its number, and numbers are of first appearance.
void expect_right(const DistinctRows& distinct, const std::vector<int32_t>& numbers, const Rows& rows,
                  int64_t row_bytes) {
  int32_t largest = -1;
  for (size_t r = 0; r < numbers.size(); ++r) {
    EXPECT(numbers[r] >= 0 && numbers[r] <= largest + 1, << numbers[r] << " in row " << r);
    const int32_t first = distinct.firsts()[numbers[r]];
    if (numbers[r] > largest) EXPECT(first == static_cast<int32_t>(r), << first << " for row " << r);
    largest = std::max(largest, numbers[r]);
    const uint8_t* const row = rows.data() + static_cast<int64_t>(r) * row_bytes;
    EXPECT(std::equal(row, row + row_bytes, rows.data() + first * row_bytes), << "in row " << r);
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
        DistinctRows distinct(memory, row_bytes, 0.0);
        const std::vector<int32_t> numbers = number(distinct, Copied(rows, row_bytes), kCount, threads);
        expect_right(distinct, numbers, rows, row_bytes);
        if (per_mille == 1000) EXPECT(distinct.count() == 3);
        if (threads == 1) first = numbers;
        EXPECT(numbers == first);
      }
      for (const int64_t above : {0, 7, 1100}) {
        DistinctRows distinct(memory, row_bytes, 0.0);
        EXPECT(number(distinct, InPlace(rows, row_bytes, above), kCount, 2) == first);
        expect_right(distinct, first, rows, row_bytes);
      }
    }
  }
}

TEST(byte_rows_that_hardly_repeat_are_not_looked_for) {
  constexpr int64_t kCount = 30000, kBytes = 16;
  Rows rows = draw_rows(kCount, kBytes, 20, 6);
  std::fill(rows.end() - 10000 * kBytes, rows.end(), uint8_t{1});  // then they do
  PoisonedAllocator memory;
  constexpr double kNever = 0.0, kEighth = 0.125;
  DistinctRows all(memory, kBytes, kNever), some(memory, kBytes, kEighth), rarer(memory, kBytes, 0.01);
  expect_right(all, number(all, Copied(rows, kBytes), kCount, 1), rows, kBytes);
  expect_right(some, number(some, Copied(rows, kBytes), kCount, 2), rows, kBytes);
  EXPECT(all.count() < some.count(), << all.count() << " of " << some.count());
  EXPECT(some.count() < kCount - 1000, << some.count());
  expect_right(rarer, number(rarer, Copied(rows, kBytes), kCount, 1), rows, kBytes);
  EXPECT(rarer.count() == all.count(), << rarer.count() << " of " << all.count());
}

TEST(byte_rows_that_are_not_looked_for_are_those_before_or_above) {
  constexpr int64_t kCount = 30000, kBytes = 16, kAbove = 100;
  Rows rows = draw_rows(kCount, kBytes, 0, 8);
  for (int64_t r = 20000; r < kCount; ++r) {  // columns of one row each
    std::copy_n(rows.begin() + (r - kAbove) * kBytes, kBytes, rows.begin() + r * kBytes);
  }
  std::fill(rows.begin() + 10000 * kBytes, rows.begin() + 12000 * kBytes, uint8_t{1});
  PoisonedAllocator memory;
  DistinctRows distinct(memory, kBytes, 0.5);
  expect_right(distinct, number(distinct, InPlace(rows, kBytes, kAbove), kCount, 2), rows, kBytes);
  EXPECT(distinct.count() == 18001, << distinct.count());
}

TEST(byte_rows_are_forgotten) {
  constexpr int64_t kCount = 300, kBytes = 32;
  const Rows rows = draw_rows(kCount, kBytes, 1000, 7);
  PoisonedAllocator memory;
  DistinctRows distinct(memory, kBytes, 0.0);
  const std::vector<int32_t> first = number(distinct, Copied(rows, kBytes), kCount, 1);
  distinct.forget();
  const std::vector<int32_t> second = number(distinct, Copied(rows, kBytes), kCount, 1);
  EXPECT(distinct.count() == 6);
  for (size_t r = 0; r < first.size(); ++r) EXPECT(second[r] == first[r] + 3, << "in row " << r);
  const Rows known(rows.begin(), rows.begin() + kBytes), other(kBytes, 77);
  EXPECT(distinct.add(Copied(rows, kBytes), known.data()) == second[0]);
  EXPECT(distinct.add(Copied(rows, kBytes), other.data()) == 6);
  EXPECT(distinct.firsts()[6] == DistinctRows::kOutside);
}

}  // namespace reuse::testing
