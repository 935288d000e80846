// Int8 entries of static tables (docs/operators.md, Static tables): their scales and limits, for CPU and CUDA alike.
#pragma once

#include <stdint.h>

#include <cmath>

namespace reuse {

struct Blocking;

// Neighbouring taps of a kernel row whose entries are added as bytes.
constexpr int64_t kTapsAtOnce = 3;

// What the largest products of these taps add up to at most, in units of the scale. Rounding adds half a unit for each
// tap, so that sums fit a byte.
constexpr float kLargestTapSum = 125.0f;

// How many such sums an int16 holds exactly, and how many entries a float32.
constexpr int64_t kMostTapSums = 32767 / 127;
constexpr int64_t kMostStaticEntries = int64_t{1} << 17;

// Of one output channel.
struct StaticScale {
  float scale = 0.0f, inverse = 0.0f;
};

// The sums of a block's taps that entries are first added to.
int64_t tap_sums(const Blocking& blocking);

// Throws std::invalid_argument unless all sums of int8 entries are exact.
void check_static_sums(const Blocking& blocking);

// Takes a value that is larger, or NaN, which then stays: a table of such products must not be made.
template <typename T>
inline void keep_larger(T& most, T value) {
  if (value > most || std::isnan(value)) most = value;
}

// Returns what a channel's largest products of neighbouring taps add up to at most. `largest` are the products of a
// block by tap, `stride` apart.
double largest_tap_sum(const Blocking& blocking, const float* largest, int64_t stride);

// Returns the scale of a channel whose largest sum of any block this is. Throws std::invalid_argument if there is none.
StaticScale static_scale(double largest_sum);

}  // namespace reuse
