#include "byte_rows.h"

#include <algorithm>
#include <cstring>

namespace reuse {
namespace {

// What is fingerprinted at once by a task, and by all before rows are numbered, which stay in the L2 cache until then.
constexpr int64_t kTileRows = 64, kRoundTiles = 16, kRoundBytes = int64_t{256} << 10;
// Rows ahead of the one that is numbered whose place in the table is fetched.
constexpr int64_t kAhead = 8;
// Where less than one row of so many was there before, the next rounds are not searched (kWherePaying).
constexpr int64_t kRareShare = 8, kSkippedRounds = 8;

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

bool is_equal(const uint8_t* a, const uint8_t* b, int64_t row_bytes) {
  uint64_t different = 0;
  for (int64_t i = 0; i < row_bytes; i += kRowUnit) {
    uint64_t own[2], other[2];
    std::memcpy(own, a + i, sizeof own);
    std::memcpy(other, b + i, sizeof other);
    different |= (own[0] ^ other[0]) | (own[1] ^ other[1]);
  }
  return different == 0;
}

}  // namespace

void DistinctRows::add(Parallel& parallel, const RowSource& source, int64_t first, int64_t count, int32_t* numbers) {
  const int64_t most = std::clamp<int64_t>(kRoundBytes / (kTileRows * row_bytes_), 1, kRoundTiles);
  Buffer<uint8_t> room(rows_.allocator(), static_cast<size_t>(most * kTileRows * row_bytes_));
  std::memset(room.data(), 0, room.size());
  const uint8_t* rows[kRoundTiles * kTileRows];  // null: equal to the one before
  int64_t codes[kRoundTiles * kTileRows];
  int64_t skipped = 0;  // rounds that are not to be searched
  for (int64_t begin = 0; begin < count; begin += most * kTileRows) {
    const int64_t of_round = std::min(most * kTileRows, count - begin);
    parallel.run((of_round + kTileRows - 1) / kTileRows, [&](int64_t t) {
      const int64_t start = t * kTileRows, end = std::min(start + kTileRows, of_round);
      const ByteRows tile = source.read(first + begin + start, end - start, room.data() + start * row_bytes_);
      const uint8_t* row = tile.first;
      for (int64_t r = start; r < end; ++r, row += tile.stride) {
        const bool repeats = r > start && is_equal(row, row - tile.stride, row_bytes_);
        rows[r] = repeats ? nullptr : row;
        if (!repeats && skipped == 0) codes[r] = fingerprint(row, row_bytes_);
      }
    });
    const int64_t before = count_;
    for (int64_t r = 0; r < of_round; ++r) {
      if (rows[r] == nullptr) {
        numbers[begin + r] = numbers[begin + r - 1];
      } else if (skipped > 0) {
        numbers[begin + r] = append(rows[r]);
      } else {
        if (r + kAhead < of_round && rows[r + kAhead] != nullptr) table_.prefetch(codes[r + kAhead]);
        numbers[begin + r] = number(rows[r], codes[r]);
      }
    }
    if (skipped > 0) {
      --skipped;
    } else if (search_ == Search::kWherePaying && kRareShare * (of_round - (count_ - before)) < of_round) {
      skipped = kSkippedRounds;
    }
  }
}

int32_t DistinctRows::add(const uint8_t* row) { return number(row, fingerprint(row, row_bytes_)); }

int32_t DistinctRows::number(const uint8_t* row, int64_t code) {
  const int32_t found = table_.find(code);
  if (found >= 0 && is_equal(row, rows_.data() + found * row_bytes_, row_bytes_)) return found;
  const int32_t own = append(row);
  if (found < 0) {
    table_.insert(code, own);
  } else {
    ++guarded_;
  }
  return own;
}

int32_t DistinctRows::append(const uint8_t* row) {
  const auto own = static_cast<int32_t>(count_++);
  rows_.resize(static_cast<size_t>(count_ * row_bytes_));
  std::memcpy(rows_.data() + own * row_bytes_, row, static_cast<size_t>(row_bytes_));
  return own;
}

}  // namespace reuse
