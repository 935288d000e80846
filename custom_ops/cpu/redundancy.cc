// Operator Redundancy: counts the different ones among sampled windows of a tensor, by fingerprints of their bits.
//
// A fingerprint is made of a sum of products of elements with fixed random keys. In it a zero adds nothing, so that
// only the part of a window that lies inside the image is read: padding needs no work.
#include "reuse/redundancy.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cluster_table.h"
#include "pieces.h"
#include "reuse/checked.h"
#include "stopwatch.h"

namespace reuse {
namespace {

using checked::require_extent;

constexpr uint64_t kGoldenRatio = 0x9E3779B97F4A7C15ull;  // of 2^64
constexpr int kJitterBits = 20;
constexpr int64_t kMostSamples = 65536;

// A window has at least so many values, if there are enough channels: a few are often equal without all being so.
constexpr int64_t kFewestValues = 64;

// Images [N, C, H, W].
struct Images {
  int64_t batch, channels, height, width;
  const float* x;
};

// A pixel.
struct Place {
  int64_t image, row, column;
};

// A window's pixels on one axis: so many before its centre, and so many from the centre on.
struct Reach {
  int64_t before, after;
  int64_t size() const { return before + after; }
};

// Pixels that are further from a centre inside the image than any pixel of it make no difference.
Reach reach_of(int64_t side, int64_t extent) {
  return {std::min(side / 2, extent - 1), std::min(side - side / 2, extent)};
}

int64_t channels_of(const Images& images, int64_t side, int64_t most) {
  const int64_t pixels = side > kFewestValues ? kFewestValues : side * std::min(side, images.height);
  return std::min(std::max(most, (kFewestValues + pixels - 1) / pixels), images.channels);
}

// The windows of one kind: where they are taken, and what they reach.
struct Windows {
  Windows(const Images& images, int64_t side, int64_t step, int64_t samples, int64_t most_channels)
      : vertical(reach_of(side, images.height)),
        horizontal(reach_of(side, images.width)),
        channels(channels_of(images, side, most_channels)),
        stride(step),
        rows((images.height + step - 1) / step),
        columns((images.width + step - 1) / step),
        positions(images.batch * rows * columns),
        taken(std::min(samples, positions)) {}

  // The centre of the k-th window: somewhere in the k-th of `taken` equal stretches of all positions, which are
  // numbered by image, row and column. Multiples of the golden ratio spread over the stretches, and so over columns.
  Place place(int64_t k) const {
    const int64_t begin = k * positions / taken, end = (k + 1) * positions / taken;
    const auto jitter = static_cast<int64_t>(static_cast<uint64_t>(k) * kGoldenRatio >> (64 - kJitterBits));
    const int64_t position = begin + (jitter * (end - begin) >> kJitterBits);
    return {position / columns / rows, position / columns % rows * stride, position % columns * stride};
  }

  // Elements have a key by two.
  int64_t pairs() const { return (horizontal.size() + 1) / 2; }

  // Returns the index in the image of one of the channels that are looked at.
  int64_t channel(const Images& images, int64_t index) const { return index * images.channels / channels; }

  Reach vertical, horizontal;
  int64_t channels;  // that are looked at
  int64_t stride, rows, columns, positions, taken;
};

// Mixes all bits.
uint64_t scramble(uint64_t value) {
  value = (value ^ value >> 32) * 0xBF58476D1CE4E5B9ull;
  value = (value ^ value >> 29) * 0x94D049BB133111EBull;
  return value ^ value >> 32;
}

// Numbers without a pattern, so that sums of products with them are equal by chance only.
void draw_keys(Buffer<uint64_t>& keys) {
  for (size_t i = 0; i < keys.size(); ++i) keys[i] = scramble((i + 1) * kGoldenRatio);
}

// Of products with keys. As wide as a product, so that it keeps all of values that differ in their highest bits only.
using Sum = unsigned __int128;

// The first of two elements is in the low half: the machines of ONNX Runtime are little-endian.
uint64_t bits_of_two(const float* values) {
  uint64_t bits;
  std::memcpy(&bits, values, sizeof(bits));
  return bits;
}

uint64_t bits_of(const float* value) {
  uint32_t bits;
  std::memcpy(&bits, value, sizeof(bits));
  return bits;
}

// The part of a window that lies inside the image.
struct Part {
  int64_t rows, columns;
  bool begins_in_pair;  // the first column is the second one of a pair
  int64_t row_length;   // of the image
  int64_t pairs;        // of the window, whether inside or not
};

// Of the products of a part's pairs in one channel with their keys.
Sum sum_of_products(const Part& part, const float* values, const uint64_t* keys) {
  const int64_t odd = part.begins_in_pair ? 1 : 0, pairs = (part.columns - odd) / 2;
  const bool ends_in_pair = (part.columns - odd) % 2 != 0;
  Sum sum = 0;
  for (int64_t row = 0; row < part.rows; ++row, values += part.row_length, keys += part.pairs) {
    const float* own = values + odd;
    const uint64_t* own_keys = keys + odd;
    if (odd != 0) sum += Sum{bits_of(values) << 32} * *keys;
    for (int64_t i = 0; i < pairs; ++i) sum += Sum{bits_of_two(own + 2 * i)} * own_keys[i];
    if (ends_in_pair) sum += Sum{bits_of(own + 2 * pairs)} * own_keys[pairs];
  }
  return sum;
}

uint64_t fingerprint(const Images& images, const Windows& windows, const Place& centre, const uint64_t* keys) {
  const int64_t top = centre.row - windows.vertical.before, left = centre.column - windows.horizontal.before;
  const int64_t first_row = std::max<int64_t>(top, 0), first_column = std::max<int64_t>(left, 0);
  const int64_t end_row = std::min(centre.row + windows.vertical.after, images.height);
  const int64_t end_column = std::min(centre.column + windows.horizontal.after, images.width);
  const Part part{end_row - first_row, end_column - first_column, (first_column - left) % 2 != 0, images.width,
                  windows.pairs()};
  keys += (first_row - top) * windows.pairs() + (first_column - left) / 2;
  Sum sum = 0;
  for (int64_t i = 0; i < windows.channels; ++i) {
    const int64_t plane = centre.image * images.channels + windows.channel(images, i);
    const int64_t row = plane * images.height + first_row;
    sum += sum_of_products(part, images.x + row * images.width + first_column, keys);
    keys += windows.vertical.size() * windows.pairs();
  }
  return scramble(static_cast<uint64_t>(sum) ^ scramble(static_cast<uint64_t>(sum >> 64)));
}

// The share of all windows that are equal to another before them, as a sample tells: the number of distinct ones is
// taken to grow with a power of the number of windows, as it grew from the first half of the sample to all of it.
float repeated_share(const Windows& windows, const uint64_t* fingerprints, ClusterTable& known) {
  if (windows.taken == 0) return 0.0f;
  known.reset();
  int32_t distinct = 0, distinct_in_half = 0;
  // Every other window first, and then the rest.
  const int64_t half = (windows.taken + 1) / 2;
  for (int64_t k = 0; k < windows.taken; ++k) {
    if (k == half) distinct_in_half = distinct;
    const auto code = static_cast<int64_t>(fingerprints[k < half ? 2 * k : 2 * (k - half) + 1]);
    if (known.find(code) < 0) known.insert(code, distinct++);
  }
  const auto taken = static_cast<double>(windows.taken);
  const double in_sample = distinct / taken;
  if (windows.taken == windows.positions || windows.taken < 2) return static_cast<float>(1.0 - in_sample);
  const double growth =
      std::log(static_cast<double>(distinct) / distinct_in_half) / std::log(taken / static_cast<double>(half));
  const double scale = std::pow(static_cast<double>(windows.positions) / taken, std::min(growth, 1.0) - 1.0);
  return static_cast<float>(1.0 - in_sample * scale);
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
  checked::require(samples >= 1 && samples <= kMostSamples,
                   "samples is " + std::to_string(samples) + ", must be 1 to " + std::to_string(kMostSamples));
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
  const Images images{batch, channels, height, width, x};
  std::vector<Windows> windows;
  int64_t num_keys = 0;
  for (size_t kind = 0; kind < a.windows.size(); ++kind) {
    const Windows& own = windows.emplace_back(images, a.windows[kind], a.strides[kind], a.samples, a.channels);
    num_keys = std::max(num_keys, own.channels * own.vertical.size() * own.pairs());
  }
  Buffer<uint64_t> keys(workspace, static_cast<size_t>(num_keys));
  draw_keys(keys);
  const int64_t taken = std::min(a.samples, batch * height * width);
  Buffer<uint64_t> fingerprints(workspace, static_cast<size_t>(kinds * taken));
  for_pieces(workspace.parallel, taken, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      // All kinds together: they often have the same centres, and what the first has read is in the cache.
      Place centre{};
      for (int64_t kind = 0; kind < kinds; ++kind) {
        const Windows& own = windows[static_cast<size_t>(kind)];
        if (k >= own.taken) continue;  // strides leave fewer positions than others have
        if (kind == 0 || own.stride != windows[static_cast<size_t>(kind) - 1].stride) centre = own.place(k);
        fingerprints[static_cast<size_t>(kind * taken + k)] = fingerprint(images, own, centre, keys.data());
      }
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
