#include "byte_rows.h"

#include <algorithm>
#include <cstring>

namespace reuse {
namespace {

// What is fingerprinted at once by a task, and by all before rows are numbered, which stay in the L2 cache until then.
constexpr int64_t kTileRows = 64, kRoundTiles = 16, kRoundBytes = int64_t{256} << 10;
// Rows ahead of the one that is numbered whose place in the table is fetched.
constexpr int64_t kAhead = 8;
// Rounds that are not searched where the last one had too few rows that were there before, of at least so many that
// were looked for: one, and twice as many each time that this is found again.
constexpr int64_t kMostSkipped = 8, kFewestSearched = 32;

// The words of 8 bytes at even and those at odd places are folded on their own, then together.
int64_t fingerprint(const uint8_t* row, int64_t row_bytes) {
  constexpr uint64_t kStart = 0x9E3779B97F4A7C15, kFactor = 0xBF58476D1CE4E5B9;
  uint64_t even = kStart, odd = kStart;
  const auto fold = [](uint64_t& folded, uint64_t word) {
    const uint64_t mixed = (folded ^ word) * kFactor;
    folded = mixed ^ (mixed >> 29);
  };
  for (int64_t i = 0; i < row_bytes; i += kRowUnit) {
    uint64_t words[2];
    std::memcpy(words, row + i, sizeof words);
    fold(even, words[0]);
    fold(odd, words[1]);
  }
  const uint64_t mixed = ((even * kFactor) ^ odd) * kStart;
  return static_cast<int64_t>(mixed ^ (mixed >> 32));
}

}  // namespace

bool are_equal(const uint8_t* a, const uint8_t* b, int64_t row_bytes) {
  constexpr int64_t kAtOnce = 4 * kRowUnit;
  const auto differ = [&](int64_t i) {
    uint64_t own[2], other[2];
    std::memcpy(own, a + i, sizeof own);
    std::memcpy(other, b + i, sizeof other);
    return (own[0] ^ other[0]) | (own[1] ^ other[1]);
  };
  int64_t i = 0;
  for (; i + kAtOnce <= row_bytes; i += kAtOnce) {
    if ((differ(i) | differ(i + kRowUnit) | differ(i + 2 * kRowUnit) | differ(i + 3 * kRowUnit)) != 0) return false;
  }
  uint64_t different = 0;
  for (; i < row_bytes; i += kRowUnit) different |= differ(i);
  return different == 0;
}

void DistinctRows::add(Parallel& parallel, const RowSource& source, int64_t first, int64_t count, int32_t* numbers) {
  const int64_t row_bytes = source.row_bytes(), above = source.above();
  const int64_t most = std::clamp<int64_t>(kRoundBytes / (kTileRows * row_bytes), 1, kRoundTiles);
  Buffer<uint8_t> room(firsts_.allocator(), static_cast<size_t>(most * kTileRows * row_bytes));
  std::memset(room.data(), 0, room.size());
  const uint8_t* rows[kRoundTiles * kTileRows];
  Known known[kRoundTiles * kTileRows];
  int64_t codes[kRoundTiles * kTileRows];
  int64_t skipped = 0, next_skipped = 1;  // rounds that are not to be searched
  for (int64_t begin = 0; begin < count; begin += most * kTileRows) {
    const int64_t of_round = std::min(most * kTileRows, count - begin);
    parallel.run((of_round + kTileRows - 1) / kTileRows, [&](int64_t t) {
      const int64_t start = t * kTileRows, own = std::min(kTileRows, of_round - start);
      source.read({first + begin + start, own, begin + start, room.data() + start * row_bytes,
                   skipped > 0 ? nullptr : rows + start, known + start});
      if (skipped > 0) return;
      for (int64_t r = start; r < start + own; ++r) {
        if (known[r] == Known::kNothing) codes[r] = fingerprint(rows[r], row_bytes);
      }
    });
    const int64_t before = this->count();
    int64_t searched = 0;
    for (int64_t r = 0; r < of_round; ++r) {
      int32_t* const own = numbers + begin + r;
      if (known[r] != Known::kNothing) {
        *own = own[known[r] == Known::kAsBefore ? -1 : -above];
        continue;
      }
      ++searched;
      const auto index = static_cast<int32_t>(first + begin + r);
      if (skipped > 0) {
        *own = append(index);
      } else {
        if (r + kAhead < of_round && known[r + kAhead] == Known::kNothing) table_.prefetch(codes[r + kAhead]);
        *own = number(source, rows[r], codes[r], index);
      }
    }
    const auto found = static_cast<double>(searched - (this->count() - before));
    if (skipped > 0) {
      --skipped;
    } else if (searched >= kFewestSearched) {
      const bool pays = found >= least_share_ * static_cast<double>(searched);
      skipped = pays ? 0 : next_skipped;
      next_skipped = pays ? 1 : std::min(2 * next_skipped, kMostSkipped);
    }
  }
}

int32_t DistinctRows::add(const RowSource& source, const uint8_t* row) {
  return number(source, row, fingerprint(row, source.row_bytes()), kOutside);
}

int32_t DistinctRows::number(const RowSource& source, const uint8_t* row, int64_t code, int32_t index) {
  const int32_t found = table_.find(code);
  if (found >= 0 &&
      are_equal(row, source.row(firsts_[static_cast<size_t>(found)], other_.data()), source.row_bytes())) {
    return found;
  }
  const int32_t own = append(index);
  if (found < 0) {
    table_.insert(code, own);
  } else {
    ++guarded_;
  }
  return own;
}

int32_t DistinctRows::append(int32_t index) {
  firsts_.resize(firsts_.size() + 1);
  firsts_[firsts_.size() - 1] = index;
  return static_cast<int32_t>(firsts_.size() - 1);
}

}  // namespace reuse
