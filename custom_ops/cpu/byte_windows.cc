#include "byte_windows.h"

#include <algorithm>
#include <cstring>

#include "gather.h"
#include "heuristics.h"
#include "stopwatch.h"

namespace reuse {
namespace {

constexpr auto kIdBytes = static_cast<int64_t>(sizeof(int32_t));

}  // namespace

class WindowSource final : public RowSource {
 public:
  WindowSource(const Blocking& blocking, const ByteVectors& vectors, int64_t group, int64_t stride)
      : RowSource(stride * kIdBytes),
        geometry_(blocking.geometry),
        patch_(blocking.layout() == Layout::kPatch),
        blocking_(blocking),
        vectors_(vectors),
        first_block_(group * blocking.blocks_per_group),
        stride_(stride) {}

  int64_t above() const override { return geometry_.out_w; }

  void read(const RowTile& tile) const override {
    for (int64_t done = 0; done < tile.count;) {
      const int64_t row = (tile.first + done) / geometry_.out_w, column = (tile.first + done) % geometry_.out_w;
      const int64_t run = std::min({geometry_.out_w - column, tile.count - done, kMostColumns});
      const int64_t of_image = row % geometry_.out_h;
      const simd::TapRow taps = tap_row(blocking_, row / geometry_.out_h, of_image, column, run);
      compare(taps, of_image, column, tile.known + done);
      for (int64_t p = done; p < done + run && tile.rows != nullptr; ++p) {
        if (tile.known[p] != Known::kNothing) continue;
        uint8_t* const room = tile.room + p * row_bytes_;
        write(taps, p - done, reinterpret_cast<int32_t*>(room));
        tile.rows[p] = room;
      }
      done += run;
    }
  }

  const uint8_t* row(int64_t index, uint8_t* room) const override {
    const auto pixel = static_cast<int32_t>(index);
    write_all(&pixel, 1, reinterpret_cast<int32_t*>(room));
    return room;
  }

  // Writes the windows of some output pixels, in the order of memory: [count, stride].
  void write_all(const int32_t* pixels, int64_t count, int32_t* to) const {
    int64_t row = pixels[0] / geometry_.out_w;  // of all images
    simd::TapRow taps = taps_of(row);
    for (int64_t w = 0; w < count; ++w) {
      if (pixels[w] >= (row + 1) * geometry_.out_w) {
        row = pixels[w] / geometry_.out_w;
        taps = taps_of(row);
      }
      write(taps, pixels[w] - row * geometry_.out_w, to + w * stride_);
    }
  }

 private:
  static constexpr int64_t kMostColumns = 64, kMostUsed = 3;  // columns of pixels, and of a kernel

  // The ids that a tap of neighbouring output pixels reads; those outside of the image are padding.
  struct Line {
    const int32_t* row;  // of the image, or null outside of it
    int64_t left, step, in_w;
    int32_t padding;

    int32_t operator[](int64_t p) const {
      const int64_t x = left + p * step;
      return row != nullptr && x >= 0 && x < in_w ? row[x] : padding;
    }
  };

  // Tells which of some neighbouring windows are those before or above them.
  void compare(const simd::TapRow& taps, int64_t row, int64_t column, Known* known) const {
    const int64_t run = taps.columns;
    uint32_t before[kMostColumns] = {}, above[kMostColumns] = {};
    before[0] = column > 0 ? 0 : 1;
    const int64_t rows_above = patch_ ? 1 : geometry_.attributes.stride_h;
    for (int64_t b = first_block_; b < first_block_ + blocking_.blocks_per_group; ++b) {
      const int32_t padding = padding_of(b);
      for (int64_t i = 0; i < taps.kernel_h; ++i) {
        const int64_t y = taps.top + i * taps.dilation_h;
        Line line{row_of(b, taps, y), taps.left, taps.stride_w, taps.in_w, padding};
        Line other{row_of(b, taps, y - rows_above), taps.left, taps.stride_w, taps.in_w, padding};
        for (int64_t j = 0; j < taps.kernel_w; ++j) {
          const ColumnRange inside = columns_inside(line.left, line.step, line.in_w, run);
          if (line.row != nullptr) compare_before(line, inside, run, before);
          if (row > 0 && (line.row != nullptr || other.row != nullptr)) compare_above(line, other, inside, above);
          line.left += taps.dilation_w;
          other.left += taps.dilation_w;
        }
      }
    }
    for (int64_t p = 0; p < run; ++p) {
      known[p] = before[p] == 0 ? Known::kAsBefore : row > 0 && above[p] == 0 ? Known::kAsAbove : Known::kNothing;
    }
  }

  // Adds to `differs` where a tap reads another id than for the pixel before.
  static void compare_before(const Line& line, const ColumnRange& inside, int64_t run, uint32_t* differs) {
    const auto compare_one = [&](int64_t p) { differs[p] |= static_cast<uint32_t>(line[p] ^ line[p - 1]); };
    compare_one(0);
    if (inside.begin > 0 && inside.begin < run) compare_one(inside.begin);
    if (inside.end > 0 && inside.end < run) compare_one(inside.end);
    if (inside.begin >= inside.end) return;
    if (line.step == 1) {
      const int32_t* const ids = line.row + (line.left + inside.begin);
      uint32_t* const own = differs + inside.begin;
      for (int64_t p = 1; p < inside.end - inside.begin; ++p) own[p] |= static_cast<uint32_t>(ids[p] ^ ids[p - 1]);
    } else {
      for (int64_t p = inside.begin + 1; p < inside.end; ++p) compare_one(p);
    }
  }

  // The same for the pixels above, whose ids are those of another line.
  static void compare_above(const Line& line, const Line& other, const ColumnRange& inside, uint32_t* differs) {
    const int64_t begin = std::max<int64_t>(inside.begin, 0);
    if (line.row != nullptr && other.row != nullptr && line.step == 1 && begin < inside.end) {
      const int32_t* const ids = line.row + (line.left + begin);
      const int32_t* const others = other.row + (line.left + begin);
      uint32_t* const own = differs + begin;
      for (int64_t p = 0; p < inside.end - begin; ++p) own[p] |= static_cast<uint32_t>(ids[p] ^ others[p]);
    } else {
      for (int64_t p = begin; p < inside.end; ++p) differs[p] |= static_cast<uint32_t>(line[p] ^ other[p]);
    }
  }

  simd::TapRow taps_of(int64_t row) const {
    return tap_row(blocking_, row / geometry_.out_h, row % geometry_.out_h, 0, 1);
  }

  // Writes the ids of one window of a row.
  void write(const simd::TapRow& taps, int64_t column, int32_t* to) const {
    const int64_t left = taps.left + column * taps.stride_w, right = left + (taps.kernel_w - 1) * taps.dilation_w;
    const bool beside = left < 0 || right >= taps.in_w;
    for (int64_t b = first_block_; b < first_block_ + blocking_.blocks_per_group; ++b) {
      for (int64_t i = 0; i < taps.kernel_h; ++i, to += taps.kernel_w) {
        const int32_t* const line = row_of(b, taps, taps.top + i * taps.dilation_h);
        if (line == nullptr || beside) {
          const Line own{line, left, taps.dilation_w, taps.in_w, padding_of(b)};
          for (int64_t j = 0; j < taps.kernel_w; ++j) to[j] = own[j];
        } else if (taps.kernel_w == kMostUsed && taps.dilation_w == 1) {
          std::memcpy(to, line + left, kMostUsed * sizeof *to);
        } else {
          for (int64_t j = 0; j < taps.kernel_w; ++j) to[j] = line[left + j * taps.dilation_w];
        }
      }
    }
  }

  // The ids of a row of a block's image, null outside of it.
  const int32_t* row_of(int64_t block, const simd::TapRow& taps, int64_t y) const {
    if (y < 0 || y >= taps.in_h) return nullptr;
    return &vectors_.ids[static_cast<size_t>(block * blocking_.vectors + taps.first_id + y * taps.in_w)];
  }

  int32_t padding_of(int64_t block) const {
    return vectors_.padding.empty() ? 0 : vectors_.padding[static_cast<size_t>(block)];
  }

  const ConvGeometry& geometry_;
  bool patch_;
  const Blocking& blocking_;
  const ByteVectors& vectors_;
  int64_t first_block_, stride_;
};

namespace {

int64_t stride_of(const Blocking& blocking) {
  constexpr int64_t kUnit = kRowUnit / kIdBytes;
  const int64_t width = blocking.blocks_per_group * blocking.taps_per_block();
  return (width + kUnit - 1) / kUnit * kUnit;
}

}  // namespace

ByteWindows::~ByteWindows() = default;

ByteWindows::ByteWindows(Workspace& workspace, const Blocking& blocking, const ByteVectors& vectors, int64_t group)
    : vectors_(vectors),
      first_block_(group * blocking.blocks_per_group),
      blocks_(blocking.blocks_per_group),
      taps_(blocking.taps_per_block()),
      stride_(stride_of(blocking)),
      source_(std::make_unique<WindowSource>(blocking, vectors, group, stride_)),
      distinct_(workspace, stride_ * kIdBytes,
                least_found_share(blocking.geometry.columns() * blocking.geometry.group_out_channels())),
      windows_(workspace, static_cast<size_t>(blocking.geometry.rows())) {
  Stopwatch watch(workspace.statistics.gather_ns);
  distinct_.add(workspace.parallel, *source_, 0, blocking.geometry.rows(), windows_.data());
}

// Elements behind the ids of a window are not written: rows that are compared have zeros there.
void ByteWindows::ids(int64_t first, int64_t count, int32_t* to) const {
  source_->write_all(places() + first, count, to);
}

void ByteWindows::read(int64_t first, int64_t count, Buffer<uint8_t>& room, const uint8_t** to) const {
  room.resize(static_cast<size_t>(count * stride_ * kIdBytes));
  auto* const own = reinterpret_cast<int32_t*>(room.data());
  ids(first, count, own);
  for (int64_t w = 0; w < count; ++w) {
    const int32_t* of_window = own + w * stride_;
    for (int64_t b = first_block_; b < first_block_ + blocks_; ++b) {
      const uint8_t* const* const rows = vectors_.blocks[static_cast<size_t>(b)].rows.data();
      for (int64_t tap = 0; tap < taps_; ++tap) *to++ = rows[*of_window++];
    }
  }
}

void ByteWindows::copy(Workspace& workspace, uint8_t* y, int64_t bytes, int64_t stride) const {
  const auto pixels = static_cast<int64_t>(windows_.size());
  if (count() == pixels) return;
  Stopwatch watch(workspace.statistics.gather_ns);
  workspace.parallel.run((pixels + kCopiedPixels - 1) / kCopiedPixels, [&](int64_t task) {
    const int64_t end = std::min(pixels, (task + 1) * kCopiedPixels);
    for (int64_t p = task * kCopiedPixels; p < end; ++p) {
      const int64_t place = places()[windows_[static_cast<size_t>(p)]];
      if (place != p) std::memcpy(y + p * stride, y + place * stride, static_cast<size_t>(bytes));
    }
  });
}

}  // namespace reuse
