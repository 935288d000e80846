// Entries of tables in memory: float32, float16 or int8, 16 bytes at once where they lie so.
#pragma once

#include <type_traits>

#include "numbers.h"
#include "wide_memory.h"

namespace reuse::cuda {

// Entries that one access of 16 bytes takes.
template <typename Entry>
constexpr int32_t kEntriesAtOnce = static_cast<int32_t>(16 / sizeof(Entry));

// What entries are added up in; sums of int8 entries are exact.
template <typename Entry>
using EntrySum = std::conditional_t<sizeof(Entry) == 1, int32_t, float>;

// As many entries as one load brings, as they are in memory.
template <typename Entry>
struct EntryWords {
  Words words;

  REUSE_BOTH float operator[](int i) const {
    if constexpr (sizeof(Entry) == 4) {
      return float_of(words.values[i]);
    } else {
      return to_float(Half{static_cast<uint16_t>(words.values[i / 2] >> (i % 2 * 16))});
    }
  }
  // Adds an entry times a factor, which int8 entries have none of.
  REUSE_BOTH void add_to(EntrySum<Entry>& sum, int i, float factor) const {
    if constexpr (sizeof(Entry) == 1) {
#ifdef __CUDA_ARCH__
      sum = __dp4a(static_cast<int32_t>(words.values[i / 4]), 1 << (i % 4 * 8), sum);  // one instruction
#else
      sum += static_cast<int8_t>(words.values[i / 4] >> (i % 4 * 8));
#endif
    } else {
      sum += (*this)[i] * factor;
    }
  }
  // Puts an entry where there is a zero.
  REUSE_BOTH void put(int i, Entry entry) {
    if constexpr (sizeof(Entry) == 4) {
      words.values[i] = bits_of(entry);
    } else if constexpr (sizeof(Entry) == 1) {
      words.values[i / 4] |= static_cast<uint32_t>(static_cast<uint8_t>(entry)) << (i % 4 * 8);
    } else {
      words.values[i / 2] |= static_cast<uint32_t>(entry.bits) << (i % 2 * 16);
    }
  }
};

// Loads `count` entries, at once where they are all there and aligned; others are zero.
template <typename Entry>
REUSE_BOTH EntryWords<Entry> load_entries(const Entry* from, int32_t count, bool aligned) {
  if (aligned && count >= kEntriesAtOnce<Entry>) return {load_16(from)};
  EntryWords<Entry> entries{};
  REUSE_UNROLL
  for (int i = 0; i < kEntriesAtOnce<Entry>; ++i) {
    if (i < count) entries.put(i, from[i]);
  }
  return entries;
}

// The same as numbers.
template <typename Entry>
REUSE_BOTH void read_entries(const Entry* from, int32_t count, bool aligned, float (&to)[kEntriesAtOnce<Entry>]) {
  const EntryWords<Entry> entries = load_entries(from, count, aligned);
  REUSE_UNROLL
  for (int i = 0; i < kEntriesAtOnce<Entry>; ++i) to[i] = entries[i];
}

// Stores the first `count` of some numbers times a factor, at once where they are all wanted and aligned.
template <typename Entry>
REUSE_BOTH void write_entries(Entry* to, int32_t count, bool aligned, const float* numbers, float factor) {
  EntryWords<Entry> entries{};
  if (aligned && count >= kEntriesAtOnce<Entry>) {
    REUSE_UNROLL
    for (int i = 0; i < kEntriesAtOnce<Entry>; ++i) entries.put(i, from_float<Entry>(numbers[i] * factor));
    store_16(to, entries.words);
    return;
  }
  REUSE_UNROLL
  for (int i = 0; i < kEntriesAtOnce<Entry>; ++i) {
    if (i < count) to[i] = from_float<Entry>(numbers[i] * factor);
  }
}

}  // namespace reuse::cuda
