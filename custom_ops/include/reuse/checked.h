// Arithmetic and bounds for numbers that come from a model: attributes and shapes. What cannot be is an
// std::invalid_argument, never a wrapped number.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace reuse::checked {

// Largest extent of any dimension or attribute. A product of two of them is in range of int64; longer ones are checked.
constexpr int64_t kLargestExtent = int64_t{1} << 30;

inline void require(bool condition, const std::string& message) {
  if (!condition) throw std::invalid_argument(message);
}

inline void require_extent(int64_t value, int64_t smallest, const char* name) {
  if (value >= smallest && value <= kLargestExtent) return;
  const bool small = value < smallest;
  throw std::invalid_argument(std::string(name) + " is " + std::to_string(value) + ", must be at " +
                              (small ? "least " : "most ") + std::to_string(small ? smallest : kLargestExtent));
}

// The product of numbers that are at least 0. Throws naming `what` if it is too large to count bytes by: arrays of that
// many elements, aligned and of up to 8 bytes, must be in range of int64, too.
inline int64_t product(const std::vector<int64_t>& factors, const char* what) {
  constexpr int64_t kLargestCount = int64_t{1} << 58;
  int64_t result = 1;
  for (const int64_t factor : factors) {
    if (factor == 0) return 0;  // whatever the others are
  }
  for (const int64_t factor : factors) {
    if (factor < 0 || factor > kLargestCount / result) {
      throw std::invalid_argument(std::string(what) + " is too large for any memory");
    }
    result *= factor;
  }
  return result;
}

}  // namespace reuse::checked
