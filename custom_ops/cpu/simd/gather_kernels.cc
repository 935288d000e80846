// Sums of table rows, and their way to the output.
#include "lanes.h"
#include "table_kernels.h"

namespace reuse {
namespace simd {
namespace REUSE_TARGET {
namespace {

struct Range {
  int64_t begin, end;
};

// One that the compiler knows.
template <int64_t kBegin, int64_t kEnd>
struct FixedRange {
  static constexpr int64_t begin = kBegin, end = kEnd;
};

// Taps of an axis that read inside the input: 0 <= first + tap * dilation < size.
REUSE_INLINE Range taps_inside(int64_t first, int64_t dilation, int64_t size, int64_t taps) {
  Range range{0, taps};
  while (range.begin < range.end && first + range.begin * dilation < 0) ++range.begin;
  while (range.end > range.begin && first + (range.end - 1) * dilation >= size) --range.end;
  return range;
}

// Neighbouring pixels that are summed at once: each id is read and turned into an address once for the taps of all of
// them. As many as the registers hold sums of.
#if defined(__AVX512F__)
constexpr int64_t kFloatPixels = 4, kInt8Pixels = 4;  // 16 and 8 of 32 registers
#elif defined(__AVX2__)
constexpr int64_t kFloatPixels = 1, kInt8Pixels = 2;  // 8 of 16 registers each
#elif defined(__aarch64__)
constexpr int64_t kFloatPixels = 1, kInt8Pixels = 2;  // 16 of 32 registers each
#else
constexpr int64_t kFloatPixels = 1, kInt8Pixels = 1;
#endif

// Sums of kPixels pixels and kVectors vectors of channels from `offset` on.
template <int64_t kVectors>
struct FloatSums {
  using Element = float;
  static constexpr int64_t kPixels = kFloatPixels;

  const Sums& sums;
  int64_t offset;

  template <int64_t kCount>
  struct Group {
    const FloatSums& of;
    float* target;
    Lanes own[kCount][kVectors];

    REUSE_INLINE Group(const FloatSums& all, int64_t x)
        : of(all), target(all.sums.values + x * all.sums.stride + all.offset) {
      for (int64_t p = 0; p < kCount; ++p) {
        for (int64_t v = 0; v < kVectors; ++v) {
          own[p][v] = of.sums.fresh ? Lanes{} : load(target + p * of.sums.stride + v * kLanes);
        }
      }
    }
    REUSE_INLINE void add(int64_t p, const float* source) {
      for (int64_t v = 0; v < kVectors; ++v) own[p][v] += load(source + of.offset + v * kLanes);
    }
    REUSE_INLINE void finish(int64_t, const int64_t*) const {
      for (int64_t p = 0; p < kCount; ++p) {
        for (int64_t v = 0; v < kVectors; ++v) store(target + p * of.sums.stride + v * kLanes, own[p][v]);
      }
    }
  };
};

// The same for channels that do not fill a vector: table rows must not be read beyond their end.
struct TailSums {
  using Element = float;
  static constexpr int64_t kPixels = 1;

  const Sums& sums;
  int64_t offset, channels;

  template <int64_t kCount>
  struct Group {
    const TailSums& of;
    float* target;
    Lanes own;

    REUSE_INLINE Group(const TailSums& all, int64_t x)
        : of(all), target(all.sums.values + x * all.sums.stride + all.offset) {
      own = of.sums.fresh ? Lanes{} : load(target);
    }
    REUSE_INLINE void add(int64_t, const float* source) { own += load_first(source + of.offset, of.channels); }
    REUSE_INLINE void finish(int64_t, const int64_t*) const { store(target, own); }
  };
};

// Unsigned, as their sums are meant modulo 2^16.
typedef Vector<uint16_t> Words;

// Sums from an int8 table. A row is read as 32 words w = 256 * high + low with signed high bytes and low ones biased to
// be unsigned. Summing w (modulo 2^16) and w >> 8 takes fewer instructions than widening both bytes: the sum of low is
// the sum of w less 256 times the sum of high, exact as long as it is below 2^16.
struct Int8Sums {
  using Element = uint8_t;
  static constexpr int64_t kPixels = kInt8Pixels;

  const Sums& sums;
  const float* scale;
  const WordSums& kept;

  template <int64_t kCount>
  struct Group {
    const Int8Sums& of;
    int64_t x;
    Words words[kCount], high[kCount];

    REUSE_INLINE Group(const Int8Sums& all, int64_t first) : of(all), x(first) {
      for (int64_t p = 0; p < kCount; ++p) {
        const bool fresh = of.kept.blocks_before == 0;
        words[p] = fresh ? Words{} : load_bits<uint16_t>(kept_words(p));
        high[p] = fresh ? Words{} : load_bits<uint16_t>(kept_words(p) + kWordSums / 2);
      }
    }
    REUSE_INLINE uint16_t* kept_words(int64_t p) const { return of.kept.values + (x + p) * kWordSums; }
    REUSE_INLINE void add(int64_t p, const uint8_t* source) {
      const Words row = load_bits<uint16_t>(source);
      words[p] += row;
      high[p] += bits_as<uint16_t>(bits_as<int16_t>(row) >> 8);
    }
    // Keeps the words, or adds the sums, times the scale, to the channels' float sums. A block has taps[p] rows.
    REUSE_INLINE void finish(int64_t blocks, const int64_t* taps) const {
      if (!of.kept.finish) {
        for (int64_t p = 0; p < kCount; ++p) {
          store_bits(kept_words(p), words[p]);
          store_bits(kept_words(p) + kWordSums / 2, high[p]);
        }
        return;
      }
      float* target = of.sums.values + x * of.sums.stride;
      for (int64_t p = 0; p < kCount; ++p) {
        const int64_t rows = (of.kept.blocks_before + blocks) * taps[p];
        const Words low = words[p] - (high[p] << 8) - static_cast<uint16_t>(rows * 128);
        const IntLanes pair[2] = {bits_as<int32_t>(low), bits_as<int32_t>(high[p])};
        for (int64_t r = 0; r < 4; ++r) {
          const IntLanes value = r < 2 ? (pair[r] << 16) >> 16 : pair[r - 2] >> 16;
          float* channels = target + p * of.sums.stride + r * kLanes;
          const Lanes scaled = to_float(value) * load(of.scale + r * kLanes);
          store(channels, of.sums.fresh ? scaled : load(channels) + scaled);
        }
      }
    }
  };
};

// Adds all blocks' rows to one pixel, taps from columns.begin to columns.end.
template <typename AllSums>
REUSE_INLINE void add_pixel(const Tables& tables, const TapRow& row, Range rows, const AllSums& all, int64_t x) {
  const int64_t left = row.left + x * row.stride_w;
  const Range columns = taps_inside(left, row.dilation_w, row.in_w, row.kernel_w);
  typename AllSums::template Group<1> group(all, x);
  for (int64_t b = 0; b < tables.num_blocks; ++b) {
    const auto* block = static_cast<const typename AllSums::Element*>(tables.blocks[b].rows);
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      const int64_t first = row.first_id + (row.top + i * row.dilation_h) * row.in_w + left;
      for (int64_t j = columns.begin; j < columns.end; ++j) {
        const int64_t id = tables.blocks[b].ids[first + j * row.dilation_w];
        group.add(0, block + id * tables.row_stride + (i * row.kernel_w + j) * tables.tap_stride);
      }
    }
  }
  const int64_t taps = (rows.end - rows.begin) * (columns.end - columns.begin);
  group.finish(tables.num_blocks, &taps);
}

// The same for kPixels neighbouring pixels with kTaps neighbouring taps a row. `inside` are the columns, counted from
// the first pixel's first tap, that lie in the input.
template <int64_t kTaps, typename Columns, typename AllSums>
REUSE_INLINE void add_pixels(const Tables& tables, const TapRow& row, Range rows, const Columns& inside,
                             const AllSums& all, int64_t x) {
  constexpr int64_t kPixels = AllSums::kPixels, kColumns = kTaps + kPixels - 1;
  typename AllSums::template Group<kPixels> group(all, x);
  for (int64_t b = 0; b < tables.num_blocks; ++b) {
    const auto* block = static_cast<const typename AllSums::Element*>(tables.blocks[b].rows);
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      const int64_t first = row.first_id + (row.top + i * row.dilation_h) * row.in_w + row.left + x;
      int64_t offsets[kColumns] = {};
#pragma GCC unroll 16
      for (int64_t k = 0; k < kColumns; ++k) {
        if (k >= inside.begin && k < inside.end) {
          offsets[k] = tables.blocks[b].ids[first + k] * tables.row_stride;
        }
      }
#pragma GCC unroll 8
      for (int64_t j = 0; j < kTaps; ++j) {
        const auto* tap = block + (i * kTaps + j) * tables.tap_stride;
#pragma GCC unroll 8
        for (int64_t p = 0; p < kPixels; ++p) {
          if (j + p >= inside.begin && j + p < inside.end) group.add(p, tap + offsets[j + p]);
        }
      }
    }
  }
  int64_t taps[kPixels];
  for (int64_t p = 0; p < kPixels; ++p) {
    const int64_t begin = inside.begin > p ? inside.begin : p;
    const int64_t end = inside.end < p + kTaps ? inside.end : p + kTaps;
    taps[p] = (rows.end - rows.begin) * (end > begin ? end - begin : 0);
  }
  group.finish(tables.num_blocks, taps);
}

template <int64_t kTaps, typename AllSums>
REUSE_INLINE void add_neighbouring_taps(const Tables& tables, const TapRow& row, Range rows, const AllSums& all) {
  constexpr int64_t kPixels = AllSums::kPixels, kColumns = kTaps + kPixels - 1, kPad = kTaps / 2;
  int64_t x = 0;
  for (; x + kPixels <= row.columns; x += kPixels) {
    const Range inside = taps_inside(row.left + x, 1, row.in_w, kColumns);
    // The borders of a convolution that keeps the image's size, too, know no branches.
    if (inside.begin == 0 && inside.end == kColumns) {
      add_pixels<kTaps>(tables, row, rows, FixedRange<0, kColumns>{}, all, x);
    } else if (inside.begin == kPad && inside.end == kColumns) {
      add_pixels<kTaps>(tables, row, rows, FixedRange<kPad, kColumns>{}, all, x);
    } else if (inside.begin == 0 && inside.end == kColumns - kPad) {
      add_pixels<kTaps>(tables, row, rows, FixedRange<0, kColumns - kPad>{}, all, x);
    } else {
      add_pixels<kTaps>(tables, row, rows, inside, all, x);
    }
  }
  for (; x < row.columns; ++x) add_pixel(tables, row, rows, all, x);
}

// Adds the rows of all blocks and taps for every pixel of the stretch.
template <typename AllSums>
REUSE_INLINE void add_stretch(const Tables& tables, const TapRow& row, const AllSums& all) {
  const Range rows = taps_inside(row.top, row.dilation_h, row.in_h, row.kernel_h);
  const int64_t neighbours = row.dilation_w == 1 && row.stride_w == 1 ? row.kernel_w : 0;
  if (neighbours == 1) {
    add_neighbouring_taps<1>(tables, row, rows, all);
  } else if (neighbours == 3) {
    add_neighbouring_taps<3>(tables, row, rows, all);
  } else if (neighbours == 5) {
    add_neighbouring_taps<5>(tables, row, rows, all);
  } else {
    for (int64_t x = 0; x < row.columns; ++x) add_pixel(tables, row, rows, all, x);
  }
}

template <Activation kActivation>
REUSE_INLINE Lanes activate(const Lanes& value, const OutputTile& output) {
  switch (kActivation) {
    case Activation::kNone:
      break;
    case Activation::kRelu:
      return rectify(value);
    case Activation::kClip: {
      const Lanes raised = if_below(value, output.low, Lanes{} + output.low, value);
      return if_above(raised, output.high, Lanes{} + output.high, raised);
    }
    case Activation::kLeakyRelu:
      return if_below(value, 0.0f, value * output.low, value);
  }
  return value;
}

// Where the values of up to kLanes neighbouring pixels are found: in sums,
struct SummedPixels {
  const float* values;
  int64_t stride;

  REUSE_INLINE const float* operator()(int64_t p) const { return values + p * stride; }
};

// or in the rows of a table.
struct TablePixels {
  const float* rows;
  int64_t stride;
  const int32_t* ids;

  REUSE_INLINE const float* operator()(int64_t p) const { return rows + ids[p] * stride; }
};

// Writes kLanes channels of kLanes pixels.
template <Activation kActivation, typename Pixels>
REUSE_INLINE void write_square(const Pixels& source, const OutputTile& output, int64_t channel, float* target) {
  const int64_t plane = output.plane;
  const Lanes bias = output.bias == nullptr ? Lanes{} : load(output.bias + channel);
  Lanes square[kLanes];
#pragma GCC unroll 16
  for (int64_t p = 0; p < kLanes; ++p) square[p] = activate<kActivation>(load(source(p) + channel) + bias, output);
  transpose(square);
#pragma GCC unroll 16
  for (int64_t c = 0; c < kLanes; ++c) store(target + c * plane, square[c]);
}

// The same for fewer pixels or channels.
template <Activation kActivation, typename Pixels>
REUSE_INLINE void write_part(const Pixels& source, int64_t pixels, const OutputTile& output, int64_t channel,
                             int64_t channels, float* target) {
  const Lanes bias = output.bias == nullptr ? Lanes{} : load_first(output.bias + channel, channels);
  Lanes square[kLanes];
  for (int64_t p = 0; p < kLanes; ++p) {
    square[p] = p < pixels ? activate<kActivation>(load(source(p) + channel) + bias, output) : Lanes{};
  }
  transpose(square);
  for (int64_t c = 0; c < channels; ++c) store_first(target + c * output.plane, square[c], pixels);
}

// Writes the channels of one pixel, which are neighbours in the output.
template <Activation kActivation>
REUSE_INLINE void write_pixel(const float* source, const OutputTile& output, float* target) {
  int64_t c = 0;
  for (; c + kLanes <= output.channels; c += kLanes) {
    const Lanes bias = output.bias == nullptr ? Lanes{} : load(output.bias + c);
    store(target + c, activate<kActivation>(load(source + c) + bias, output));
  }
  if (c < output.channels) {
    const int64_t rest = output.channels - c;
    const Lanes bias = output.bias == nullptr ? Lanes{} : load_first(output.bias + c, rest);
    store_first(target + c, activate<kActivation>(load(source + c) + bias, output), rest);
  }
}

// Writes `pixels` pixels, unless pixel-major a long stretch of some channels after the other; `at(p)` tells where those
// from p on are found.
template <Activation kActivation, typename At>
REUSE_INLINE void write_activated(const At& at, int64_t pixels, const OutputTile& output) {
  if (output.pixel_step > 1) {
    for (int64_t p = 0; p < pixels; ++p) {
      write_pixel<kActivation>(at(p)(0), output, output.y + p * output.pixel_step);
    }
    return;
  }
  for (int64_t c = 0; c < output.channels; c += kLanes) {
    const int64_t channels = output.channels - c < kLanes ? output.channels - c : kLanes;
    float* target = output.y + c * output.plane;
    int64_t p = 0;
    if (channels == kLanes) {
      for (; p + kLanes <= pixels; p += kLanes) write_square<kActivation>(at(p), output, c, target + p);
    }
    for (; p < pixels; p += kLanes) {
      const int64_t rest = pixels - p < kLanes ? pixels - p : kLanes;
      write_part<kActivation>(at(p), rest, output, c, channels, target + p);
    }
  }
}

template <typename At>
REUSE_INLINE void write_all(const At& at, int64_t pixels, const OutputTile& output) {
  switch (output.activation) {
    case Activation::kNone:
      return write_activated<Activation::kNone>(at, pixels, output);
    case Activation::kRelu:
      return write_activated<Activation::kRelu>(at, pixels, output);
    case Activation::kClip:
      return write_activated<Activation::kClip>(at, pixels, output);
    case Activation::kLeakyRelu:
      return write_activated<Activation::kLeakyRelu>(at, pixels, output);
  }
}

}  // namespace

void add_taps(const Tables& tables, const TapRow& row, const Sums& sums) {
  int64_t offset = 0;
  for (; offset + 4 * kLanes <= tables.channels; offset += 4 * kLanes) {
    add_stretch(tables, row, FloatSums<4>{sums, offset});
  }
  for (; offset + 2 * kLanes <= tables.channels; offset += 2 * kLanes) {
    add_stretch(tables, row, FloatSums<2>{sums, offset});
  }
  for (; offset + kLanes <= tables.channels; offset += kLanes) add_stretch(tables, row, FloatSums<1>{sums, offset});
  if (offset < tables.channels) add_stretch(tables, row, TailSums{sums, offset, tables.channels - offset});
}

void add_taps_int8(const Tables& tables, const TapRow& row, const float* scale, const WordSums& words,
                   const Sums& sums) {
  add_stretch(tables, row, Int8Sums{sums, scale, words});
}

void write_output(const Sums& sums, int64_t pixels, const OutputTile& output) {
  write_all([&](int64_t p) { return SummedPixels{sums.values + p * sums.stride, sums.stride}; }, pixels, output);
}

void write_rows(const float* rows, int64_t stride, const int32_t* ids, int64_t pixels, const OutputTile& output) {
  write_all([&](int64_t p) { return TablePixels{rows, stride, ids + p}; }, pixels, output);
}

}  // namespace REUSE_TARGET
}  // namespace simd
}  // namespace reuse
