// Operator Hold: the pixels that changed as a mask of bytes, which is opened and dilated; the others keep their value.
#include "reuse/hold.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <string>
#include <utility>

#include "last_run.h"
#include "pieces.h"
#include "reuse/checked.h"
#include "stopwatch.h"

namespace reuse {
namespace {

using checked::require;

constexpr int64_t kMostPixels = 64;

// Whether a value differs from the one that is held by more than `most` (or by NaN), and by nothing finite.
bool differs(float x, float held, float most) { return !(std::fabs(x - held) <= most); }
bool is_wild(float x, float held) { return !(std::fabs(x - held) < INFINITY); }
bool differs(uint8_t x, uint8_t held, uint8_t most) { return (x > held ? x - held : held - x) > most; }
bool is_wild(uint8_t, uint8_t) { return false; }

// The largest difference that is not more than the tolerance.
template <typename T>
T limit(float tolerance) {
  return static_cast<T>(std::is_same_v<T, float> ? tolerance : std::min(tolerance, 255.0f));
}

// A row of a mask, combined with those that are moved over it: all must be set, or one.
void combine(uint8_t* row, const uint8_t* other, int64_t width, bool all) {
  if (all) {
    for (int64_t i = 0; i < width; ++i) row[i] &= other[i];
  } else {
    for (int64_t i = 0; i < width; ++i) row[i] |= other[i];
  }
}

// Masks of all images, a byte for each pixel: 1 where something is the case.
struct Mask {
  Mask(Workspace& workspace, const HeldShape& shape)
      : height(shape.height),
        width(shape.width),
        rows(shape.batch * shape.height),
        bytes(workspace, static_cast<size_t>(rows * width)) {}
  uint8_t* row(int64_t index) { return bytes.data() + index * width; }

  int64_t height, width, rows;
  Buffer<uint8_t> bytes;
};

// Runs `body(row, line)` for each row, where `line` is memory for one with `margin` pixels on either side of it.
template <typename Body>
void for_each_row(Workspace& workspace, const Mask& mask, int64_t margin, const Body& body) {
  for_pieces(workspace.parallel, mask.rows, [&](int64_t begin, int64_t end) {
    Buffer<uint8_t> line(workspace, static_cast<size_t>(mask.width + 2 * margin));
    for (int64_t row = begin; row < end; ++row) body(row, line.data() + margin);
  });
}

// Writes to `target` what `line` has within `reach` pixels on its row: in all of them, or in one. Nothing beyond the
// image counts. `line` has a margin of `reach` pixels.
void spread_along(uint8_t* line, int64_t width, int64_t reach, bool all, uint8_t* target) {
  std::fill_n(line - reach, reach, static_cast<uint8_t>(all));
  std::fill_n(line + width, reach, static_cast<uint8_t>(all));
  std::copy_n(line, width, target);
  for (int64_t shift = -reach; shift <= reach; ++shift) combine(target, line + shift, width, all);
}

// The same for rows of an image: `line` has what they have within `reach` of `row`.
void spread_across(Mask& mask, int64_t row, int64_t reach, bool all, uint8_t* line) {
  const int64_t top = row / mask.height * mask.height;
  std::copy_n(mask.row(row), mask.width, line);
  for (int64_t other = std::max(top, row - reach); other < std::min(top + mask.height, row + reach + 1); ++other) {
    if (other != row) combine(line, mask.row(other), mask.width, all);
  }
}

// Where the elements of a row are: in planes, or with the channels of a pixel side by side.
struct Rows {
  Rows(const HoldAttributes& attributes, const HeldShape& shape)
      : planes(attributes.axis == 1 ? shape.channels : 1),
        step(attributes.axis == 1 ? 1 : shape.channels),
        height(shape.height),
        row_length(shape.width * step) {}
  int64_t begin(int64_t row, int64_t plane) const {
    return ((row / height * planes + plane) * height + row % height) * row_length;
  }
  int64_t planes, step, height, row_length;
};

// Marks of a row's pixels: those that differ, those that do by nothing finite, and those that do by half as much.
struct RowMarks {
  uint8_t *differing, *wild, *halfway;
};

template <typename T>
void compare_channel(const T* __restrict__ x, const T* __restrict__ held, int64_t step, int64_t width, float tolerance,
                     const RowMarks& marks) {
  const T most = limit<T>(tolerance), half = limit<T>(tolerance / 2);
  uint8_t* __restrict__ const differing = marks.differing, * __restrict__ const wild = marks.wild;
  for (int64_t i = 0; i < width; ++i) {
    differing[i] |= static_cast<uint8_t>(differs(x[i * step], held[i * step], most));
    wild[i] |= static_cast<uint8_t>(is_wild(x[i * step], held[i * step]));
  }
  uint8_t* __restrict__ const halfway = marks.halfway;
  for (int64_t i = 0; halfway != nullptr && i < width; ++i) {
    halfway[i] |= static_cast<uint8_t>(differs(x[i * step], held[i * step], half));
  }
}

template <typename T>
void compare(const HoldAttributes& attributes, const HeldShape& shape, int64_t row, const T* x, const T* held,
             const RowMarks& marks) {
  const Rows rows(attributes, shape);
  for (uint8_t* of : {marks.differing, marks.wild, marks.halfway}) {
    if (of != nullptr) std::fill_n(of, shape.width, uint8_t{0});
  }
  for (int64_t c = 0; c < shape.channels; ++c) {
    const float tolerance = attributes.tolerances[attributes.tolerances.size() == 1 ? 0 : static_cast<size_t>(c)];
    const int64_t begin = attributes.axis == 1 ? rows.begin(row, c) : rows.begin(row, 0) + c;
    compare_channel(x + begin, held + begin, rows.step, shape.width, tolerance, marks);
  }
}

// Gives a row of y what is held, and both what has changed. Returns the number of pixels that have.
template <typename T>
int64_t take(const Rows& rows, int64_t row, const uint8_t* changed, int64_t width, const T* x, T* held, T* y) {
  for (int64_t plane = 0; plane < rows.planes; ++plane) {
    const int64_t begin = rows.begin(row, plane);
    std::copy_n(held + begin, rows.row_length, y + begin);
  }
  int64_t count = 0;
  const uint8_t* const end = changed + width;
  for (const uint8_t *first = std::find(changed, end, 1), *last; first != end; first = std::find(last, end, 1)) {
    last = std::find(first, end, 0);
    count += last - first;
    for (int64_t plane = 0; plane < rows.planes; ++plane) {
      const int64_t begin = rows.begin(row, plane) + (first - changed) * rows.step;
      std::copy_n(x + begin, (last - first) * rows.step, held + begin);
      std::copy_n(x + begin, (last - first) * rows.step, y + begin);
    }
  }
  return count;
}

}  // namespace

void HoldAttributes::check() const {
  require(!tolerances.empty(), "attribute tolerances has 0 values, needs 1, or one for each channel");
  for (const float tolerance : tolerances) {
    require(tolerance >= 0.0f, "tolerances has " + std::to_string(tolerance) + ", must be at least 0");
  }
  require(patience >= 0, "patience is " + std::to_string(patience) + ", must be at least 0");
  for (const auto& [pixels, name] : {std::pair{opening, "opening"}, {dilation, "dilation"}}) {
    require(pixels >= 0 && pixels <= kMostPixels,
            std::string(name) + " is " + std::to_string(pixels) + ", must be 0 to " + std::to_string(kMostPixels));
  }
  require(axis == 1 || axis == 3, "axis is " + std::to_string(axis) + ", must be 1 or 3");
  require(memory >= 0, "memory is " + std::to_string(memory) + ", must be at least 0");
}

template <typename T>
void hold(Workspace& workspace, ReuseState& state, const HoldAttributes& a, const HeldShape& shape, const T* x, T* y) {
  Stopwatch watch(workspace.statistics.hash_ns);
  for (const int64_t extent : {shape.batch, shape.channels, shape.height, shape.width}) {
    checked::require_extent(extent, 0, "an extent of X");
  }
  const int64_t size = checked::product({shape.batch, shape.channels, shape.height, shape.width}, "X");
  require(a.tolerances.size() == 1 || a.tolerances.size() == static_cast<size_t>(shape.channels),
          "X has " + std::to_string(shape.channels) + " channels, but there are " +
              std::to_string(a.tolerances.size()) + " tolerances");
  workspace.statistics.vectors = shape.batch * shape.height * shape.width;
  const int64_t bytes = size * static_cast<int64_t>(sizeof(T)),
                marks = a.patience > 0 ? workspace.statistics.vectors : 0;
  LastRunHold last(&state, {shape.batch, shape.height, shape.width, marks, 0, bytes, shape.channels});
  T* const held = last.get() == nullptr ? nullptr : reinterpret_cast<T*>(last.get()->result.data());
  if (held == nullptr || last.get()->empty) {
    workspace.statistics.anew = 1;
    std::copy_n(x, size, y);
    if (held == nullptr) return;
    std::copy_n(x, size, held);
    std::fill_n(last.get()->input.data(), marks, uint8_t{1});
    last.get()->waited = 0;
    last.leave(true);
    return;
  }
  // What is opened and then dilated is eroded and then dilated by both: an image has no holes.
  const int64_t opening = a.opening, reach = a.opening + a.dilation;
  uint8_t* const lasting = marks > 0 ? last.get()->input.data() : nullptr;
  const bool is_due = lasting != nullptr && ++last.get()->waited == a.patience;
  if (is_due) last.get()->waited = 0;
  Mask eroded(workspace, shape), dilated(workspace, shape), wild(workspace, shape);
  for_each_row(workspace, eroded, opening, [&](int64_t row, uint8_t* line) {
    uint8_t* const halfway = lasting == nullptr ? nullptr : dilated.row(row);  // which nobody needs yet
    compare(a, shape, row, x, held, {line, wild.row(row), halfway});
    if (halfway != nullptr) combine(lasting + row * shape.width, halfway, shape.width, true);
    spread_along(line, shape.width, opening, true, eroded.row(row));
  });
  for_each_row(workspace, dilated, reach, [&](int64_t row, uint8_t* line) {
    spread_across(eroded, row, opening, true, line);
    if (is_due) {
      combine(line, lasting + row * shape.width, shape.width, false);
      std::fill_n(lasting + row * shape.width, shape.width, uint8_t{1});
    }
    spread_along(line, shape.width, reach, false, dilated.row(row));
  });
  const Rows rows(a, shape);
  std::atomic<int64_t> changed{0};
  for_each_row(workspace, dilated, 0, [&](int64_t row, uint8_t* line) {
    spread_across(dilated, row, reach, false, line);
    combine(line, wild.row(row), shape.width, false);
    changed += take(rows, row, line, shape.width, x, held, y);
  });
  workspace.statistics.changed = changed;
  last.leave(true);
}

template void hold(Workspace&, ReuseState&, const HoldAttributes&, const HeldShape&, const float*, float*);
template void hold(Workspace&, ReuseState&, const HoldAttributes&, const HeldShape&, const uint8_t*, uint8_t*);

}  // namespace reuse
