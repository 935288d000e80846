#include "reuse/slot_key.h"

#ifdef __linux__
#include <unistd.h>
#endif

#include <chrono>
#include <exception>
#include <random>

namespace reuse {
namespace {

// Whether `bits` are random now.
bool draw(uint64_t& bits) {
#ifdef __linux__
  // The C library's own, since 2.25: std::random_device, linked in, needs that of the machine where it was compiled.
  return getentropy(&bits, sizeof bits) == 0;
#else
  try {
    std::random_device source;
    bits = uint64_t{source()} << 32 | source();
    return true;
  } catch (const std::exception&) {  // a machine without a source of random numbers
    return false;
  }
#endif
}

uint64_t odd_key() {
  uint64_t bits = 0;
  if (!draw(bits)) {
    bits = static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count()) * 0x9E3779B97F4A7C15ull;
  }
  return bits | 1;
}

}  // namespace

uint64_t slot_key() {
  static const uint64_t key = odd_key();
  return key;
}

}  // namespace reuse
