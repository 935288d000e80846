// Sums of rows of static tables. Every tap of every pixel has a row, as taps outside of the image have one of zeros:
// the loops know no borders. Nothing is fused, so that results have the same bits on every machine.
#include "static_kernels.h"

#include "lanes.h"
#if defined(__SSE2__)
#include <immintrin.h>
#endif
#include "reuse/static_entries.h"
#include "table_kernels.h"

namespace reuse {
namespace simd {
namespace REUSE_TARGET {
namespace {

typedef Vector<uint8_t> Bytes;
typedef Vector<uint16_t> Words;

// Pixels that are summed at once, as many as registers hold sums of. Those of two rows share offsets and lines of the
// first level cache.
#if defined(__AVX512F__)
constexpr int64_t kRowsAtOnce = 2, kColumnsAtOnce = 4;
#elif defined(__AVX2__) || defined(__aarch64__)
constexpr int64_t kRowsAtOnce = 1, kColumnsAtOnce = 2;
#else
constexpr int64_t kRowsAtOnce = 1, kColumnsAtOnce = 1;
#endif

// Calls body(p, q) for the rows p and columns q of a group of pixels, without a loop: what is only read and written at
// constant places stays in registers.
template <int64_t kRows, int64_t kColumns, typename Body>
REUSE_INLINE void for_pixels(const Body& body) {
#pragma GCC unroll 2
  for (int64_t p = 0; p < kRows; ++p) {
#pragma GCC unroll 4
    for (int64_t q = 0; q < kColumns; ++q) body(p, q);
  }
}

// Sums of int8 entries. A row is read as 32 words w = 256 * high + low. Rows of neighbouring taps are added as bytes,
// to signed high ones and, with the bias, unsigned low ones. Low sums are those of the words less 256 times the high
// ones, modulo 2^16.
template <int64_t kRows, int64_t kColumns>
struct WordGroup {
  const StaticWords& waiting;
  const StaticSums& sums;
  Words words[kRows][kColumns], high[kRows][kColumns];

  // The sums of the pixels from row y and column x on.
  REUSE_INLINE WordGroup(const StaticWords& w, const StaticSums& s, int64_t y, int64_t x) : waiting(w), sums(s) {
    if (waiting.fresh) {
      for_pixels<kRows, kColumns>([&](int64_t p, int64_t q) { words[p][q] = high[p][q] = Words{}; });
      return;
    }
    for_pixels<kRows, kColumns>([&](int64_t p, int64_t q) {
      words[p][q] = load_bits<uint16_t>(place(y + p, x + q));
      high[p][q] = load_bits<uint16_t>(place(y + p, x + q) + kStaticChannels / 2);
    });
  }
  REUSE_INLINE uint16_t* place(int64_t y, int64_t x) const {
    return waiting.values + y * waiting.row_stride + x * kStaticChannels;
  }
  // Adds to a pixel the rows of a kernel row's taps: that of tap t begins at row_of(t).
  template <typename RowOf>
  REUSE_INLINE void add(int64_t p, int64_t q, int64_t taps, const RowOf& row_of) {
#pragma GCC unroll 2
    for (int64_t first = 0; first < taps; first += kTapsAtOnce) {
      Bytes bytes = load_bits<uint8_t>(row_of(first));
      for (int64_t t = first + 1; t < taps && t < first + kTapsAtOnce; ++t) bytes += load_bits<uint8_t>(row_of(t));
      words[p][q] += bits_as<uint16_t>(bytes);
      high[p][q] += bits_as<uint16_t>(bits_as<int16_t>(bytes) >> 8);
    }
  }
  REUSE_INLINE void end(int64_t y, int64_t x) const {
    if (waiting.finish) {
      for_pixels<kRows, kColumns>([&](int64_t p, int64_t q) {
        finish(words[p][q], high[p][q], sums.values + (y + p) * sums.row_stride + (x + q) * sums.stride);
      });
    }
    if (!waiting.keep) return;
    for_pixels<kRows, kColumns>([&](int64_t p, int64_t q) {
      store_bits(place(y + p, x + q), words[p][q]);
      store_bits(place(y + p, x + q) + kStaticChannels / 2, high[p][q]);
    });
  }
  // Adds a pixel's sums to those of float32, in which they are whole numbers until they are scaled.
  REUSE_INLINE void finish(const Words& both, const Words& top, float* channels) const {
    const Words low = both - (top << 8) - static_cast<uint16_t>(waiting.sums * kStaticBias);
    const IntLanes pair[2] = {bits_as<int32_t>(low), bits_as<int32_t>(top)};
    for (int64_t r = 0; r < 4; ++r) {
      float* own = channels + r * kLanes;
      Lanes value = to_float(r < 2 ? (pair[r] << 16) >> 16 : pair[r - 2] >> 16);
      if (!sums.fresh) value += load(own);
      store(own, sums.scale == nullptr ? value : value * load(sums.scale + r * kLanes));
    }
  }
};

// Sums of kVectors vectors of channels from `offset` on, in the order of blocks and taps.
template <int64_t kRows, int64_t kColumns, int64_t kVectors>
struct FloatGroup {
  const StaticSums& sums;
  int64_t offset;
  Lanes own[kRows][kColumns][kVectors];

  REUSE_INLINE FloatGroup(const StaticSums& s, int64_t from, int64_t y, int64_t x) : sums(s), offset(from) {
    for_pixels<kRows, kColumns>([&](int64_t p, int64_t q) {
      for (int64_t v = 0; v < kVectors; ++v) {
        own[p][q][v] = sums.fresh ? Lanes{} : load(place(y + p, x + q) + v * kLanes);
      }
    });
  }
  REUSE_INLINE float* place(int64_t y, int64_t x) const {
    return sums.values + y * sums.row_stride + x * sums.stride + offset;
  }
  template <typename RowOf>
  REUSE_INLINE void add(int64_t p, int64_t q, int64_t taps, const RowOf& row_of) {
#pragma GCC unroll 5
    for (int64_t t = 0; t < taps; ++t) {
      const float* values = reinterpret_cast<const float*>(row_of(t)) + offset;
      for (int64_t v = 0; v < kVectors; ++v) own[p][q][v] += load(values + v * kLanes);
    }
  }
  REUSE_INLINE void end(int64_t y, int64_t x) const {
    for_pixels<kRows, kColumns>([&](int64_t p, int64_t q) {
      for (int64_t v = 0; v < kVectors; ++v) store(place(y + p, x + q) + v * kLanes, own[p][q][v]);
    });
  }
};

// Fetches memory in `steps` about equal pieces: contiguous tables into the first level cache, and where the output goes
// into the second.
class Fetcher {
 public:
  REUSE_INLINE Fetcher(const StaticBlocks& blocks, int64_t groups)
      : output_(&blocks.output),
        table_(blocks.next_tables),
        tables_end_(table_ + blocks.next_lines * kLine),
        table_bytes_(piece(blocks.next_lines, groups * blocks.num_blocks) * kLine),
        lines_(piece(blocks.output.lines, groups * blocks.num_blocks)) {}
  REUSE_INLINE void fetch() {
    const uint8_t* const stop = tables_end_ - table_ > table_bytes_ ? table_ + table_bytes_ : tables_end_;
    for (; table_ < stop; table_ += kLine) __builtin_prefetch(table_, 0, 3);
    const int64_t rest = output_->lines - line_;
    for (const int64_t end = line_ + (lines_ < rest ? lines_ : rest); line_ < end; ++line_) {
      const FetchedPlanes& to = *output_;
      const int64_t row = line_ >> to.line_bits, within = line_ - (row << to.line_bits);
      const int64_t plane = row >> to.row_bits, of_plane = row - (plane << to.row_bits);
      __builtin_prefetch(to.memory + plane * to.plane_bytes + of_plane * to.row_bytes + within * kLine, 0, 2);
    }
  }

 private:
  static constexpr int64_t kLine = 64;
  REUSE_INLINE static int64_t piece(int64_t lines, int64_t steps) {
    constexpr int64_t kMost = 32;  // more than that at once, and the memory is the limit
    const int64_t equal = (lines + steps - 1) / steps;
    return equal < kMost ? equal : kMost;
  }

  const FetchedPlanes* output_;
  const uint8_t* table_;
  const uint8_t* tables_end_;
  int64_t table_bytes_, lines_, line_ = 0;
};

// Adds all blocks' rows to a group of pixels of a convolution with kTaps x kTaps neighbouring taps.
template <int64_t kTaps, int64_t kRows, int64_t kColumns, int64_t kTapBytes, typename Offset, typename Group>
REUSE_INLINE void add_square(const StaticBlocks& tables, int64_t first, int64_t width, Fetcher& fetcher, Group& group) {
  constexpr int64_t kRead = kTaps + kColumns - 1;
  const int64_t tap_bytes = kTapBytes > 0 ? kTapBytes : tables.tap_bytes;
  Fetcher own = fetcher;
  for (int64_t b = 0; b < tables.num_blocks; ++b) {
    const uint8_t* rows = tables.blocks[b].rows;
    const Offset* at = static_cast<const Offset*>(tables.blocks[b].offsets) + first;
    own.fetch();
#pragma GCC unroll 6
    for (int64_t r = 0; r < kTaps + kRows - 1; ++r) {
      const uint8_t* of_column[kRead];
#pragma GCC unroll 8
      for (int64_t k = 0; k < kRead; ++k) of_column[k] = rows + static_cast<uint64_t>(at[k]) * kOffsetUnit;
#pragma GCC unroll 2
      for (int64_t p = 0; p < kRows; ++p) {
        const int64_t i = r - p;
        if (i < 0 || i >= kTaps) continue;
#pragma GCC unroll 4
        for (int64_t q = 0; q < kColumns; ++q) {
          group.add(p, q, kTaps, [&](int64_t t) { return of_column[q + t] + (i * kTaps + t) * tap_bytes; });
        }
      }
      at += width;
      // Else the compiler finds more in common between the addresses of all rows than there are registers for.
      __asm__ volatile("" : "+r"(at), "+r"(rows));
    }
  }
  fetcher = own;
}

// The same for one pixel of any convolution.
template <typename Offset, typename Group>
REUSE_INLINE void add_any(const StaticBlocks& tables, const StaticPixels& pixels, int64_t first, Fetcher& fetcher,
                          Group& group) {
  for (int64_t b = 0; b < tables.num_blocks; ++b) {
    const uint8_t* rows = tables.blocks[b].rows;
    const Offset* at = static_cast<const Offset*>(tables.blocks[b].offsets) + first;
    fetcher.fetch();
    for (int64_t i = 0; i < pixels.kernel_h; ++i) {
      group.add(0, 0, pixels.kernel_w, [&](int64_t t) {
        const uint64_t offset = at[i * pixels.dilation_h * pixels.width + t * pixels.dilation_w];
        return rows + offset * kOffsetUnit + (i * pixels.kernel_w + t) * tables.tap_bytes;
      });
    }
  }
}

template <int64_t kCount>
struct Count {
  static constexpr int64_t kValue = kCount;
};

template <int64_t kTaps, int64_t kTapBytes, typename Offset, typename Sums>
REUSE_INLINE void add_squares(const StaticBlocks& tables, const StaticPixels& pixels, const Sums& sums) {
  Fetcher fetcher(tables, (pixels.rows / kRowsAtOnce + pixels.rows % kRowsAtOnce) *
                              (pixels.columns / kColumnsAtOnce + pixels.columns % kColumnsAtOnce));
  const auto add_group = [&](auto rows, auto columns, int64_t y, int64_t x) {
    constexpr int64_t kRows = decltype(rows)::kValue, kColumns = decltype(columns)::kValue;
    auto group = sums.template group<kRows, kColumns>(y, x);
    const int64_t first = pixels.first + y * pixels.width + x;
    add_square<kTaps, kRows, kColumns, kTapBytes, Offset>(tables, first, pixels.width, fetcher, group);
    group.end(y, x);
  };
  const auto add_rows = [&](auto rows, int64_t y) {
    int64_t x = 0;
    for (; x + kColumnsAtOnce <= pixels.columns; x += kColumnsAtOnce) add_group(rows, Count<kColumnsAtOnce>(), y, x);
    for (; x < pixels.columns; ++x) add_group(rows, Count<1>(), y, x);
  };
  int64_t y = 0;
  for (; y + kRowsAtOnce <= pixels.rows; y += kRowsAtOnce) add_rows(Count<kRowsAtOnce>(), y);
  for (; y < pixels.rows; ++y) add_rows(Count<1>(), y);
}

template <int64_t kTapBytes, typename Offset, typename Sums>
REUSE_INLINE void add_pixels(const StaticBlocks& tables, const StaticPixels& pixels, const Sums& sums) {
  const bool neighbours =
      pixels.dilation_h == 1 && pixels.dilation_w == 1 && pixels.stride_h == 1 && pixels.stride_w == 1;
  const int64_t square = neighbours && pixels.kernel_h == pixels.kernel_w ? pixels.kernel_h : 0;
  if (square == 1) return add_squares<1, kTapBytes, Offset>(tables, pixels, sums);
  if (square == 3) return add_squares<3, kTapBytes, Offset>(tables, pixels, sums);
  if (square == 5) return add_squares<5, kTapBytes, Offset>(tables, pixels, sums);
  Fetcher fetcher(tables, pixels.rows * pixels.columns);
  for (int64_t y = 0; y < pixels.rows; ++y) {
    for (int64_t x = 0; x < pixels.columns; ++x) {
      auto group = sums.template group<1, 1>(y, x);
      const int64_t first = pixels.first + y * pixels.stride_h * pixels.width + x * pixels.stride_w;
      add_any<Offset>(tables, pixels, first, fetcher, group);
      group.end(y, x);
    }
  }
}

struct SumsOfWords {
  const StaticWords& words;
  const StaticSums& sums;

  template <int64_t kRows, int64_t kColumns>
  REUSE_INLINE WordGroup<kRows, kColumns> group(int64_t y, int64_t x) const {
    return {words, sums, y, x};
  }
};

template <int64_t kVectors>
struct SumsOfFloats {
  const StaticSums& sums;
  int64_t offset;

  template <int64_t kRows, int64_t kColumns>
  REUSE_INLINE FloatGroup<kRows, kColumns, kVectors> group(int64_t y, int64_t x) const {
    return {sums, offset, y, x};
  }
};

template <int64_t kVectors>
void add_floats(const StaticBlocks& tables, const StaticPixels& pixels, const SumsOfFloats<kVectors>& sums) {
  if (tables.wide) return add_pixels<0, uint32_t>(tables, pixels, sums);
  add_pixels<0, uint16_t>(tables, pixels, sums);
}

// Takes the entries of a tap's row from a pixel's words and adds those of another one. `flip` is kStaticBias in the low
// bytes of taps whose entries lack it: then both rows have it, and it cancels out.
REUSE_INLINE void add_difference(uint16_t* place, const uint8_t* before, const uint8_t* now, uint16_t flip) {
  const Words old = load_bits<uint16_t>(before) ^ flip, own = load_bits<uint16_t>(now) ^ flip;
  const auto high = [](const Words& words) { return bits_as<uint16_t>(bits_as<int16_t>(words) >> 8); };
  store_bits(place, load_bits<uint16_t>(place) + own - old);
  uint16_t* top = place + kStaticChannels / 2;
  store_bits(top, load_bits<uint16_t>(top) + high(own) - high(old));
}

// Which taps of an axis read a place for one of `count` outputs: the output of tap t is (place - t * dilation) /
// stride.
struct ReadingTaps {
  int64_t place, taps, dilation, stride, count;

  template <typename Body>
  REUSE_INLINE void run(const Body& body) const {
    if (stride == 1 && dilation == 1) {
      const int64_t last = place < taps - 1 ? place : taps - 1;
      for (int64_t t = place < count ? 0 : place - count + 1; t <= last; ++t) body(t, place - t);
      return;
    }
    for (int64_t t = 0; t < taps && t * dilation <= place; ++t) {
      const int64_t distance = place - t * dilation;
      if (distance % stride == 0 && distance / stride < count) body(t, distance / stride);
    }
  }
};

template <typename Offset>
REUSE_INLINE void update_words(const StaticBlocks& tables, const StaticPixels& pixels, int64_t row_words,
                               const StaticWords& words) {
  const int64_t top = pixels.first / pixels.width, left = pixels.first % pixels.width;
  for (int64_t b = 0; b < tables.num_blocks; ++b) {
    const StaticBlock& block = tables.blocks[b];
    for (int64_t r = 0; r < read_rows(pixels); ++r) {
      const ReadingTaps rows{r, pixels.kernel_h, pixels.dilation_h, pixels.stride_h, pixels.rows};
      const Offset* now = static_cast<const Offset*>(block.offsets) + (top + r) * pixels.width;
      const Offset* before = static_cast<const Offset*>(block.before) + (top + r) * pixels.width;
      for_marked(block.changed + (top + r) * row_words, left, left + read_columns(pixels), [&](int64_t place) {
        const ReadingTaps columns{place - left, pixels.kernel_w, pixels.dilation_w, pixels.stride_w, pixels.columns};
        const uint8_t* old_row = block.rows + static_cast<uint64_t>(before[place]) * kOffsetUnit;
        const uint8_t* row = block.rows + static_cast<uint64_t>(now[place]) * kOffsetUnit;
        rows.run([&](int64_t i, int64_t y) {
          columns.run([&](int64_t j, int64_t x) {
            const int64_t tap = (i * pixels.kernel_w + j) * kStaticChannels;
            const uint16_t flip = j % kTapsAtOnce == 0 ? 0 : static_cast<uint16_t>(kStaticBias);
            add_difference(words.values + y * words.row_stride + x * kStaticChannels, old_row + tap, row + tap, flip);
          });
        });
      });
    }
  }
}

// Bits of the `count` offsets that differ, at most kMarkedPlaces.
template <typename Offset>
REUSE_INLINE uint64_t differing(const Offset* before, const Offset* now, int64_t count) {
  uint64_t bits = 0;
  for (int64_t i = 0; i < count; ++i) bits |= static_cast<uint64_t>(before[i] != now[i]) << i;
  return bits;
}

// The same of kMarkedPlaces offsets.
REUSE_INLINE uint64_t differing(const uint32_t* before, const uint32_t* now) {
  return differing(before, now, kMarkedPlaces);
}
REUSE_INLINE uint64_t differing(const uint16_t* before, const uint16_t* now) {
#if defined(__AVX512BW__)
  const auto half = [&](int64_t from) {
    return static_cast<uint64_t>(
        _mm512_cmpneq_epi16_mask(_mm512_loadu_si512(before + from), _mm512_loadu_si512(now + from)));
  };
  return half(0) | half(32) << 32;
#elif defined(__SSE2__)
  uint64_t equal = 0;
  const auto load = [](const uint16_t* from) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)); };
  for (int64_t i = 0; i < kMarkedPlaces; i += 16) {
    const __m128i low = _mm_cmpeq_epi16(load(before + i), load(now + i));
    const __m128i high = _mm_cmpeq_epi16(load(before + i + 8), load(now + i + 8));
    equal |= static_cast<uint64_t>(_mm_movemask_epi8(_mm_packs_epi16(low, high))) << i;
  }
  return ~equal;
#else
  return differing(before, now, kMarkedPlaces);
#endif
}

template <typename Offset>
REUSE_INLINE void mark(const Offset* before, const Offset* now, int64_t count, uint64_t* changed) {
  for (; count >= kMarkedPlaces; count -= kMarkedPlaces, before += kMarkedPlaces, now += kMarkedPlaces) {
    *changed++ = differing(before, now);
  }
  if (count > 0) *changed = differing(before, now, count);
}

}  // namespace

void update_static_int8(const StaticBlocks& tables, const StaticPixels& pixels, int64_t row_words,
                        const StaticWords& words) {
  if (tables.wide) return update_words<uint32_t>(tables, pixels, row_words, words);
  update_words<uint16_t>(tables, pixels, row_words, words);
}

void finish_static_int8(const FetchedPlanes& output, const StaticPixels& pixels, const StaticWords& words,
                        const StaticSums& sums) {
  const StaticBlocks nothing_else{nullptr, 1, 0, false, nullptr, 0, output};
  Fetcher fetcher(nothing_else, pixels.rows * pixels.columns);
  for (int64_t y = 0; y < pixels.rows; ++y) {
    for (int64_t x = 0; x < pixels.columns; ++x) {
      fetcher.fetch();
      const WordGroup<1, 1> group(words, sums, y, x);
      group.finish(group.words[0][0], group.high[0][0], sums.values + y * sums.row_stride + x * sums.stride);
    }
  }
}

void mark_changes(const void* before, const void* now, bool wide, int64_t count, uint64_t* changed) {
  if (wide) return mark(static_cast<const uint32_t*>(before), static_cast<const uint32_t*>(now), count, changed);
  mark(static_cast<const uint16_t*>(before), static_cast<const uint16_t*>(now), count, changed);
}

void add_static_int8(const StaticBlocks& tables, const StaticPixels& pixels, const StaticWords& words,
                     const StaticSums& sums) {
  const SumsOfWords own{words, sums};
  if (tables.wide) return add_pixels<kStaticChannels, uint32_t>(tables, pixels, own);
  add_pixels<kStaticChannels, uint16_t>(tables, pixels, own);
}

void add_static_float(const StaticBlocks& tables, const StaticPixels& pixels, int64_t channels,
                      const StaticSums& sums) {
  int64_t offset = 0;
  for (; offset + 2 * kLanes <= channels; offset += 2 * kLanes)
    add_floats(tables, pixels, SumsOfFloats<2>{sums, offset});
  if (offset < channels) add_floats(tables, pixels, SumsOfFloats<1>{sums, offset});
}

}  // namespace REUSE_TARGET
}  // namespace simd
}  // namespace reuse
