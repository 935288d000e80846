// Operator Redundancy: counts the different ones among sampled windows of a tensor, by fingerprints of their bits.
//
// A fingerprint is made of sums of products with fixed random keys. In such a sum a zero adds nothing, so that only the
// part of a window that lies inside the image is read: padding needs no work.
#include "reuse/redundancy.h"

#include <algorithm>
#include <cstring>

#include "cluster_table.h"
#include "heuristics.h"
#include "reuse/checked.h"
#include "stopwatch.h"

namespace reuse {
namespace {

using checked::require_extent;

constexpr uint64_t kGoldenRatio = 0x9E3779B97F4A7C15ull;  // of 2^64
constexpr int kJitterBits = 20;

// Images [N, C, H, W], and how many of their channels are looked at.
struct Images {
  int64_t batch, channels, height, width;
  const float* x;
  int64_t looked_at;
};

// A window's pixels on one axis: so many before its centre, and so many from the centre on.
struct Reach {
  int64_t before, after;
};

// Pixels that are further from a centre inside the image than any pixel of it make no difference.
Reach reach_of(int64_t side, int64_t extent) {
  return {std::min(side / 2, extent - 1), std::min(side - side / 2, extent)};
}

// The windows of one kind: where they are taken, and what they reach.
struct Windows {
  Windows(const Images& images, int64_t side, int64_t step, int64_t samples)
      : vertical(reach_of(side, images.height)),
        horizontal(reach_of(side, images.width)),
        stride(step),
        rows((images.height + step - 1) / step),
        columns((images.width + step - 1) / step),
        positions(images.batch * rows * columns),
        taken(std::min(samples, positions)) {}

  // The position that is taken as the k-th: somewhere in the k-th of `taken` equal stretches of all positions, which
  // are numbered by image, row and column. Multiples of the golden ratio spread over the stretches, and so over
  // columns.
  int64_t position(int64_t k) const {
    const int64_t begin = k * positions / taken, end = (k + 1) * positions / taken;
    const auto jitter = static_cast<int64_t>(static_cast<uint64_t>(k) * kGoldenRatio >> (64 - kJitterBits));
    return begin + (jitter * (end - begin) >> kJitterBits);
  }

  Reach vertical, horizontal;
  int64_t stride, rows, columns, positions, taken;
};

// Bijective, and leaves 0 alone.
uint64_t scramble(uint64_t value) {
  value = (value ^ value >> 32) * 0xBF58476D1CE4E5B9ull;
  value = (value ^ value >> 29) * 0x94D049BB133111EBull;
  return value ^ value >> 32;
}

// Odd numbers without a pattern: products with them lose nothing, and sums are equal by chance only.
void draw_keys(Buffer<uint64_t>& keys) {
  for (size_t i = 0; i < keys.size(); ++i) keys[i] = scramble((i + 1) * kGoldenRatio) | 1;
}

uint64_t sum_of_row(const float* values, const uint64_t* keys, int64_t count) {
  uint64_t sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, values + i, sizeof(bits));
    // Values often differ in their high bits only, of which a product would keep as few.
    bits ^= bits >> 16;
    sum += bits * keys[i];
  }
  return sum;
}

uint64_t fingerprint(const Images& images, const Windows& windows, int64_t position, const uint64_t* keys) {
  const int64_t column = position % windows.columns * windows.stride;
  const int64_t row = position / windows.columns % windows.rows * windows.stride;
  const int64_t image = position / windows.columns / windows.rows;
  const int64_t top = row - windows.vertical.before, left = column - windows.horizontal.before;
  const int64_t first_row = std::max<int64_t>(top, 0), first_column = std::max<int64_t>(left, 0);
  const int64_t end_row = std::min(row + windows.vertical.after, images.height);
  const int64_t count = std::min(column + windows.horizontal.after, images.width) - first_column;
  uint64_t sum = 0;
  for (int64_t i = 0; i < images.looked_at; ++i) {
    const int64_t channel = i * images.channels / images.looked_at;
    const float* values = images.x + ((image * images.channels + channel) * images.height + first_row) * images.width;
    uint64_t of_channel = 0;
    for (int64_t r = first_row; r < end_row; ++r, values += images.width) {
      of_channel += scramble(sum_of_row(values + first_column, keys + (first_column - left), count)) * keys[r - top];
    }
    sum += scramble(of_channel) * keys[i];
  }
  return sum;
}

float repeated_share(const Windows& windows, const uint64_t* fingerprints, ClusterTable& known) {
  if (windows.taken == 0) return 0.0f;
  known.reset();
  int32_t distinct = 0;
  for (int64_t k = 0; k < windows.taken; ++k) {
    const auto code = static_cast<int64_t>(fingerprints[k]);
    if (known.find(code) < 0) known.insert(code, distinct++);
  }
  return static_cast<float>(1.0 - static_cast<double>(distinct) / static_cast<double>(windows.taken));
}

}  // namespace

void RedundancyAttributes::check() const {
  const auto require_values = [&](size_t count, const char* name) {
    checked::require(count == windows.size(), std::string("attribute ") + name + " has " + std::to_string(count) +
                                                  " values, needs " + std::to_string(windows.size()));
  };
  checked::require(!windows.empty(), "attribute windows has 0 values, needs at least 1");
  require_values(strides.size(), "strides");
  require_values(gains.size(), "gains");
  for (const int64_t window : windows) require_extent(window, 1, "windows");
  for (const int64_t stride : strides) require_extent(stride, 1, "strides");
  checked::require(samples >= 1 && samples <= 4096, "samples is " + std::to_string(samples) + ", must be 1 to 4096");
  require_extent(channels, 1, "channels");
}

bool RedundancyAttributes::are_enough(const std::vector<float>& shares) const {
  double gain = 0.0;
  for (size_t i = 0; i < shares.size(); ++i) gain += static_cast<double>(gains[i]) * static_cast<double>(shares[i]);
  return gain > static_cast<double>(threshold);
}

std::vector<float> repeated_shares(Workspace& workspace, const RedundancyAttributes& a, int64_t batch, int64_t channels,
                                   int64_t height, int64_t width, const float* x) {
  Stopwatch watch(workspace.statistics.hash_ns);
  require_extent(channels, 0, "input channels");
  require_extent(height, 0, "input height");
  require_extent(width, 0, "input width");
  const auto kinds = static_cast<int64_t>(a.windows.size());
  std::vector<float> shares(a.windows.size(), 0.0f);
  if (checked::product({batch, channels, height, width}, "X") == 0) return shares;
  const Images images{batch, channels, height, width, x, std::min(a.channels, channels)};
  std::vector<Windows> windows;
  int64_t num_keys = images.looked_at;
  for (size_t kind = 0; kind < a.windows.size(); ++kind) {
    const Windows& own = windows.emplace_back(images, a.windows[kind], a.strides[kind], a.samples);
    for (const Reach& reach : {own.vertical, own.horizontal}) num_keys = std::max(num_keys, reach.before + reach.after);
  }
  Buffer<uint64_t> keys(workspace, static_cast<size_t>(num_keys));
  draw_keys(keys);
  const int64_t taken = std::min(a.samples, batch * height * width), pieces = kinds * taken;
  Buffer<uint64_t> fingerprints(workspace, static_cast<size_t>(pieces));
  const int64_t per_task = pieces_per_task(pieces);
  workspace.parallel.run((pieces + per_task - 1) / per_task, [&](int64_t task) {
    for (int64_t piece = task * per_task; piece < std::min(pieces, (task + 1) * per_task); ++piece) {
      const Windows& own = windows[static_cast<size_t>(piece / taken)];
      const int64_t k = piece % taken;
      if (k >= own.taken) continue;  // strides leave fewer positions than others have
      fingerprints[static_cast<size_t>(piece)] = fingerprint(images, own, own.position(k), keys.data());
    }
  });
  ClusterTable known(workspace);
  for (int64_t kind = 0; kind < kinds; ++kind) {
    const auto index = static_cast<size_t>(kind);
    shares[index] = repeated_share(windows[index], fingerprints.data() + kind * taken, known);
  }
  return shares;
}

}  // namespace reuse
