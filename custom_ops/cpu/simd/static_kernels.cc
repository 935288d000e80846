// Sums of rows of static tables. Every tap of every pixel has a row, as taps outside of the image have one of zeros:
// the loops know no borders. Nothing is fused, so that results have the same bits on every machine.
#include "static_kernels.h"

#include "lanes.h"
#include "table_kernels.h"

namespace reuse {
namespace simd {
namespace REUSE_TARGET {
namespace {

typedef Vector<uint16_t> Words;

// Neighbouring pixels that are summed at once, as many as registers hold sums of.
#if defined(__AVX512F__)
constexpr int64_t kPixelsAtOnce = 4;
#elif defined(__AVX2__) || defined(__aarch64__)
constexpr int64_t kPixelsAtOnce = 2;
#else
constexpr int64_t kPixelsAtOnce = 1;
#endif

// Sums of int8 entries. A row is read as 32 words w = 256 * high + low with signed high bytes and low ones biased to be
// unsigned. Two rows are added before high bytes are split off: neither byte leaves its range. Low sums are those of
// the words less 256 times the high ones, modulo 2^16.
template <int64_t kCount>
struct WordGroup {
  Words words[kCount], high[kCount], waiting[kCount];

  REUSE_INLINE WordGroup(const StaticWords& kept, int64_t x) {
    for (int64_t p = 0; p < kCount; ++p) {
      if (kept.rows_before == 0) {
        words[p] = high[p] = Words{};
        continue;
      }
      const uint16_t* from = kept.values + (x + p) * kStaticChannels;
      words[p] = load_bits<uint16_t>(from);
      high[p] = load_bits<uint16_t>(from + kStaticChannels / 2);
    }
  }
  REUSE_INLINE void add_words(int64_t p, const Words& row) {
    words[p] += row;
    high[p] += bits_as<uint16_t>(bits_as<int16_t>(row) >> 8);
  }
  // Adds a row, if `second` together with the one before.
  REUSE_INLINE void add(int64_t p, bool second, const uint8_t* row) {
    if (second) {
      add_words(p, waiting[p] + load_bits<uint16_t>(row));
    } else {
      waiting[p] = load_bits<uint16_t>(row);
    }
  }
  REUSE_INLINE void end_block(bool odd) {
    for (int64_t p = 0; odd && p < kCount; ++p) add_words(p, waiting[p]);
  }
  REUSE_INLINE void keep(const StaticWords& kept, int64_t x) const {
    for (int64_t p = 0; p < kCount; ++p) {
      uint16_t* to = kept.values + (x + p) * kStaticChannels;
      store_bits(to, words[p]);
      store_bits(to + kStaticChannels / 2, high[p]);
    }
  }
  // Adds the sums of `rows` rows to those of float32, in which they are whole numbers until they are scaled.
  REUSE_INLINE void finish(const StaticSums& sums, int64_t x, int64_t rows) const {
    for (int64_t p = 0; p < kCount; ++p) {
      const Words low = words[p] - (high[p] << 8) - static_cast<uint16_t>(rows * kStaticBias);
      const IntLanes pair[2] = {bits_as<int32_t>(low), bits_as<int32_t>(high[p])};
      for (int64_t r = 0; r < 4; ++r) {
        float* channels = sums.values + (x + p) * sums.stride + r * kLanes;
        Lanes value = to_float(r < 2 ? (pair[r] << 16) >> 16 : pair[r - 2] >> 16);
        if (!sums.fresh) value += load(channels);
        store(channels, sums.scale == nullptr ? value : value * load(sums.scale + r * kLanes));
      }
    }
  }
};

// Sums of kVectors vectors of channels from `offset` on, in the order of blocks and taps.
template <int64_t kCount, int64_t kVectors>
struct FloatGroup {
  Lanes own[kCount][kVectors];
  int64_t offset;

  REUSE_INLINE FloatGroup(const StaticSums& sums, int64_t x, int64_t first) : offset(first) {
    for (int64_t p = 0; p < kCount; ++p) {
      for (int64_t v = 0; v < kVectors; ++v) {
        own[p][v] = sums.fresh ? Lanes{} : load(sums.values + (x + p) * sums.stride + offset + v * kLanes);
      }
    }
  }
  REUSE_INLINE void add(int64_t p, bool, const uint8_t* row) {
    const float* values = reinterpret_cast<const float*>(row) + offset;
    for (int64_t v = 0; v < kVectors; ++v) own[p][v] += load(values + v * kLanes);
  }
  REUSE_INLINE void end_block(bool) {}
  REUSE_INLINE void store_sums(const StaticSums& sums, int64_t x) const {
    for (int64_t p = 0; p < kCount; ++p) {
      for (int64_t v = 0; v < kVectors; ++v) {
        store(sums.values + (x + p) * sums.stride + offset + v * kLanes, own[p][v]);
      }
    }
  }
};

// Fetches the share of a group of pixels, some of it with each block, into the cache of level kLevel. (Levels that
// __builtin_prefetch knows count the other way.)
template <int kLevel>
class Fetcher {
 public:
  REUSE_INLINE Fetcher(const Fetched& fetched, int64_t x, int64_t pixels)
      : fetched_(fetched),
        line_((fetched.lines_per_pixel * x) >> kShareBits),
        end_((fetched.lines_per_pixel * (x + pixels)) >> kShareBits) {}
  REUSE_INLINE void fetch() {
    constexpr int64_t kLine = 64, kMost = 12;  // per block: more than that, and the memory is the limit
    const int64_t stop = line_ + kMost < end_ ? line_ + kMost : end_;
    for (; line_ < stop; ++line_) {
      const int64_t row = line_ >> fetched_.line_bits, within = line_ & ((int64_t{1} << fetched_.line_bits) - 1);
      __builtin_prefetch(fetched_.memory + row * fetched_.stride + within * kLine, 0, 4 - kLevel);
    }
  }

 private:
  const Fetched& fetched_;
  int64_t line_, end_;
};

// Adds all blocks' rows to kCount neighbouring pixels of a convolution with kTaps x kTaps neighbouring taps.
template <int64_t kTaps, int64_t kCount, typename Offset, int64_t kTapBytes, typename Group>
REUSE_INLINE void add_square(const StaticBlocks& tables, const StaticRow& row, int64_t x, Group& group) {
  constexpr int64_t kColumns = kTaps + kCount - 1;
  Fetcher<1> of_tables(tables.tables, x, kCount);
  Fetcher<2> of_output(tables.output, x, kCount);
  const int64_t tap_bytes = kTapBytes > 0 ? kTapBytes : tables.tap_bytes;
  for (int64_t b = 0; b < tables.num_blocks; ++b) {
    const uint8_t* rows = tables.blocks[b].rows;
    const Offset* at = static_cast<const Offset*>(tables.blocks[b].offsets) + row.first + x;
    of_tables.fetch();
    of_output.fetch();
#pragma GCC unroll 5
    for (int64_t i = 0; i < kTaps; ++i) {
      const uint8_t* of_column[kColumns];
#pragma GCC unroll 8
      for (int64_t k = 0; k < kColumns; ++k) of_column[k] = rows + static_cast<uint64_t>(at[k]) * kOffsetUnit;
#pragma GCC unroll 5
      for (int64_t j = 0; j < kTaps; ++j) {
#pragma GCC unroll 4
        for (int64_t p = 0; p < kCount; ++p) group.add(p, (i * kTaps + j) % 2 == 1, of_column[j + p] + j * tap_bytes);
      }
      at += row.width;
      rows += kTaps * tap_bytes;
      // Else the compiler finds more in common between the addresses of all rows than there are registers for.
      __asm__ volatile("" : "+r"(at), "+r"(rows));
    }
    group.end_block(kTaps * kTaps % 2 == 1);
  }
}

// The same for one pixel of any convolution.
template <typename Offset, typename Group>
REUSE_INLINE void add_any(const StaticBlocks& tables, const StaticRow& row, int64_t x, Group& group) {
  Fetcher<1> of_tables(tables.tables, x, 1);
  Fetcher<2> of_output(tables.output, x, 1);
  for (int64_t b = 0; b < tables.num_blocks; ++b) {
    const uint8_t* rows = tables.blocks[b].rows;
    const Offset* at = static_cast<const Offset*>(tables.blocks[b].offsets) + row.first + x * row.stride_w;
    of_tables.fetch();
    of_output.fetch();
    bool second = false;
    for (int64_t i = 0; i < row.kernel_h; ++i) {
      for (int64_t j = 0; j < row.kernel_w; ++j) {
        const uint64_t offset = at[i * row.dilation_h * row.width + j * row.dilation_w];
        group.add(0, second, rows + offset * kOffsetUnit + (i * row.kernel_w + j) * tables.tap_bytes);
        second = !second;
      }
    }
    group.end_block(second);
  }
}

// Goes through the stretch: `pixels` begin the sums of a group from x on, and end them.
template <int64_t kTaps, typename Offset, int64_t kTapBytes, typename Pixels>
REUSE_INLINE void add_squares(const StaticBlocks& tables, const StaticRow& row, const Pixels& pixels) {
  int64_t x = 0;
  for (; x + kPixelsAtOnce <= row.columns; x += kPixelsAtOnce) {
    auto group = pixels.template begin<kPixelsAtOnce>(x);
    add_square<kTaps, kPixelsAtOnce, Offset, kTapBytes>(tables, row, x, group);
    pixels.end(group, x);
  }
  for (; x < row.columns; ++x) {
    auto group = pixels.template begin<1>(x);
    add_square<kTaps, 1, Offset, kTapBytes>(tables, row, x, group);
    pixels.end(group, x);
  }
}

template <typename Offset, int64_t kTapBytes, typename Pixels>
REUSE_INLINE void add_stretch(const StaticBlocks& tables, const StaticRow& row, const Pixels& pixels) {
  const bool neighbours = row.dilation_h == 1 && row.dilation_w == 1 && row.stride_w == 1;
  const int64_t square = neighbours && row.kernel_h == row.kernel_w ? row.kernel_h : 0;
  if (square == 1) return add_squares<1, Offset, kTapBytes>(tables, row, pixels);
  if (square == 3) return add_squares<3, Offset, kTapBytes>(tables, row, pixels);
  if (square == 5) return add_squares<5, Offset, kTapBytes>(tables, row, pixels);
  for (int64_t x = 0; x < row.columns; ++x) {
    auto group = pixels.template begin<1>(x);
    add_any<Offset>(tables, row, x, group);
    pixels.end(group, x);
  }
}

struct WordPixels {
  const StaticWords& words;
  const StaticSums& sums;
  int64_t rows;  // in all, once these blocks' are added

  template <int64_t kCount>
  REUSE_INLINE WordGroup<kCount> begin(int64_t x) const {
    return WordGroup<kCount>(words, x);
  }
  template <int64_t kCount>
  REUSE_INLINE void end(const WordGroup<kCount>& group, int64_t x) const {
    if (words.finish) {
      group.finish(sums, x, rows);
    } else {
      group.keep(words, x);
    }
  }
};

template <int64_t kVectors>
struct FloatPixels {
  const StaticSums& sums;
  int64_t offset;

  template <int64_t kCount>
  REUSE_INLINE FloatGroup<kCount, kVectors> begin(int64_t x) const {
    return FloatGroup<kCount, kVectors>(sums, x, offset);
  }
  template <int64_t kCount>
  REUSE_INLINE void end(const FloatGroup<kCount, kVectors>& group, int64_t x) const {
    group.store_sums(sums, x);
  }
};

template <int64_t kVectors>
void add_floats(const StaticBlocks& tables, const StaticRow& row, const FloatPixels<kVectors>& pixels) {
  if (tables.wide) return add_stretch<uint32_t, 0>(tables, row, pixels);
  add_stretch<uint16_t, 0>(tables, row, pixels);
}

}  // namespace

void add_static_int8(const StaticBlocks& tables, const StaticRow& row, const StaticWords& words,
                     const StaticSums& sums) {
  const int64_t rows = words.rows_before + tables.num_blocks * row.kernel_h * row.kernel_w;
  const WordPixels pixels{words, sums, rows};
  if (tables.wide) return add_stretch<uint32_t, kStaticChannels>(tables, row, pixels);
  add_stretch<uint16_t, kStaticChannels>(tables, row, pixels);
}

void add_static_float(const StaticBlocks& tables, const StaticRow& row, int64_t channels, const StaticSums& sums) {
  int64_t offset = 0;
  for (; offset + 2 * kLanes <= channels; offset += 2 * kLanes) add_floats(tables, row, FloatPixels<2>{sums, offset});
  if (offset < channels) add_floats(tables, row, FloatPixels<1>{sums, offset});
}

}  // namespace REUSE_TARGET
}  // namespace simd
}  // namespace reuse
