#include "byte_changes.h"

#include <algorithm>
#include <cstring>

#include "byte_products.h"
#include "byte_weights.h"
#include "pieces.h"
#include "stopwatch.h"

namespace reuse {
namespace {

// Marks the pixels of a row that are not those of the last one, which becomes the same.
void mark_row(const uint8_t* row, uint8_t* last, int64_t pixels, int64_t pixel_bytes, uint8_t* marks) {
  const auto size = static_cast<size_t>(pixel_bytes), all = static_cast<size_t>(pixels * pixel_bytes);
  std::memset(marks, 0, static_cast<size_t>(pixels));
  if (std::memcmp(row, last, all) == 0) return;
  for (int64_t p = 0; p < pixels; ++p) {
    marks[p] = std::memcmp(row + p * pixel_bytes, last + p * pixel_bytes, size) == 0 ? 0 : 1;
  }
  std::memcpy(last, row, all);
}

// Marks the output pixels of a row that see a marked pixel. `any` has room for a row of the input.
void spread_row(const ConvGeometry& g, const uint8_t* marks, int64_t row, uint8_t* any, uint8_t* seen) {
  const ConvAttributes& a = g.attributes;
  std::fill_n(any, g.in_w, uint8_t{0});
  std::fill_n(seen, g.out_w, uint8_t{0});
  for (int64_t i = 0; i < a.kernel_h; ++i) {
    const int64_t y = row * a.stride_h - a.pad_top + i * a.dilation_h;
    if (y < 0 || y >= g.in_h) continue;
    const uint8_t* const own = marks + y * g.in_w;
    for (int64_t x = 0; x < g.in_w; ++x) any[x] |= own[x];
  }
  for (int64_t j = 0; j < a.kernel_w; ++j) {
    const int64_t left = j * a.dilation_w - a.pad_left;
    const ColumnRange inside = columns_inside(left, a.stride_w, g.in_w, g.out_w);
    for (int64_t p = inside.begin; p < inside.end; ++p) seen[p] |= any[left + p * a.stride_w];
  }
}

// Reads a group's windows of output pixels. Vectors that are whole rows of bytes as weights are multiplied with are
// left where they are in x.
class PixelWindows {
 public:
  PixelWindows(const QuantisedPlan& plan, const Blocking& blocking, int64_t group, const uint8_t* x)
      : blocking_(blocking),
        x_(x),
        first_block_(group * blocking.blocks_per_group),
        row_bytes_(plan.weights().row_bytes()),
        flip_(plan.x_flip()) {
    const bool patch = blocking.layout() == Layout::kPatch;
    in_place_ = are_whole_rows(plan, blocking);
    padding_.assign(static_cast<size_t>(row_bytes_), plan.x_zero_point());
    const ConvGeometry& g = blocking.geometry;
    const ConvAttributes& a = g.attributes;
    for (int64_t b = first_block_; b < first_block_ + blocking.blocks_per_group; ++b) {
      if (patch) patches_.push_back(vectors_of_block(plan, blocking, x, b));
      for (int64_t tap = 0; !patch && tap < g.taps(); ++tap) {
        const int64_t pixel = tap / a.kernel_w * a.dilation_h * g.in_w + tap % a.kernel_w * a.dilation_w;
        taps_.push_back(pixel * g.in_channels + blocking.first_channel(b));
      }
    }
  }

  void read(const int32_t* pixels, int64_t count, Buffer<uint8_t>& room, const uint8_t** to) const {
    const int64_t seen = blocking_.blocks_per_group * blocking_.taps_per_block();
    for (int64_t w = 0; w < count; ++w) {
      if (patches_.empty()) find_taps(pixels[w], to + w * seen);
    }
    if (in_place_) return;
    room.resize(static_cast<size_t>(count * seen * row_bytes_));
    uint8_t* row = room.data();
    std::memset(row, 0, room.size());
    for (int64_t w = 0; w < count; ++w) {
      for (int64_t v = 0; v < seen; ++v, row += row_bytes_) {
        const int64_t index = v / blocking_.taps_per_block(), length = blocking_.block_length(first_block_ + index);
        const uint8_t*& vector = to[w * seen + v];
        if (patches_.empty()) {
          std::memcpy(row, vector, static_cast<size_t>(length));
        } else {
          patches_[static_cast<size_t>(index)]->row(pixels[w], row);
        }
        vector = row;
        if (flip_ == 0) continue;
        for (int64_t l = 0; l < length; ++l) row[l] ^= flip_;
      }
    }
  }

 private:
  // Where the vectors of a window are in x, of layout channel.
  void find_taps(int64_t pixel, const uint8_t** to) const {
    const ConvGeometry& g = blocking_.geometry;
    const ConvAttributes& a = g.attributes;
    const int64_t image = pixel / g.out_pixels(), row = pixel % g.out_pixels() / g.out_w, column = pixel % g.out_w;
    const int64_t top = row * a.stride_h - a.pad_top, left = column * a.stride_w - a.pad_left;
    const int64_t first = ((image * g.in_h + top) * g.in_w + left) * g.in_channels;
    const bool inside = top >= 0 && top + (a.kernel_h - 1) * a.dilation_h < g.in_h && left >= 0 &&
                        left + (a.kernel_w - 1) * a.dilation_w < g.in_w;
    for (size_t t = 0; t < taps_.size(); ++t) {
      to[t] = inside || is_inside(top, left, static_cast<int64_t>(t) % g.taps()) ? x_ + (first + taps_[t])
                                                                                 : padding_.data();
    }
  }

  // Whether a tap of the window that begins there is inside of the image.
  bool is_inside(int64_t top, int64_t left, int64_t tap) const {
    const ConvGeometry& g = blocking_.geometry;
    const int64_t y = top + tap / g.attributes.kernel_w * g.attributes.dilation_h;
    const int64_t x = left + tap % g.attributes.kernel_w * g.attributes.dilation_w;
    return y >= 0 && y < g.in_h && x >= 0 && x < g.in_w;
  }

  const Blocking& blocking_;
  const uint8_t* x_;
  int64_t first_block_, row_bytes_;
  uint8_t flip_;
  bool in_place_;
  std::vector<uint8_t> padding_;  // a pixel outside of the image
  std::vector<int64_t> taps_;     // where vectors are from a window's first pixel on, of layout channel
  std::vector<std::unique_ptr<const RowSource>> patches_;  // of layout patch, by block
};

}  // namespace

ByteChanges take_changes(const Blocking& blocking, Workspace& workspace, const uint8_t* x, uint8_t* last) {
  Stopwatch watch(workspace.statistics.hash_ns);
  const ConvGeometry& g = blocking.geometry;
  const int64_t in_rows = g.batch * g.in_h, out_rows = g.batch * g.out_h;
  Buffer<uint8_t> marks(workspace, static_cast<size_t>(in_rows * g.in_w));
  for_pieces(workspace.parallel, in_rows, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t place = r * g.in_w * g.in_channels;
      mark_row(x + place, last + place, g.in_w, g.in_channels, marks.data() + r * g.in_w);
    }
  });
  Buffer<uint8_t> seen(workspace, static_cast<size_t>(g.rows()));
  for_pieces(workspace.parallel, out_rows, [&](int64_t begin, int64_t end) {
    Buffer<uint8_t> any(workspace, static_cast<size_t>(g.in_w));
    for (int64_t r = begin; r < end; ++r) {
      spread_row(g, marks.data() + r / g.out_h * g.in_pixels(), r % g.out_h, any.data(), seen.data() + r * g.out_w);
    }
  });
  ByteChanges changes{std::count(marks.data(), marks.data() + marks.size(), uint8_t{1}), Buffer<int32_t>(workspace)};
  const uint8_t *const begin = seen.data(), *const end = begin + seen.size();
  changes.of_outputs.resize(static_cast<size_t>(std::count(begin, end, uint8_t{1})));
  int32_t* to = changes.of_outputs.data();
  for (const uint8_t* p = std::find(begin, end, uint8_t{1}); p != end; p = std::find(p + 1, end, uint8_t{1})) {
    *to++ = static_cast<int32_t>(p - begin);
  }
  return changes;
}

void multiply_pixels(const QuantisedPlan& plan, const Blocking& blocking, Workspace& workspace,
                     const Buffer<int32_t>& pixels, const uint8_t* x, uint8_t* y) {
  for (int64_t group = 0; group < blocking.geometry.attributes.group; ++group) {
    const PixelWindows windows(plan, blocking, group, x);
    const auto read = [&](int64_t first, int64_t count, Buffer<uint8_t>& room, const uint8_t** to) {
      windows.read(pixels.data() + first, count, room, to);
    };
    multiply_windows(plan, blocking, workspace, group, static_cast<int64_t>(pixels.size()), pixels.data(), read, y);
  }
}

}  // namespace reuse
