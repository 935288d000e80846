#include "reuse/slot_key.h"

#include <chrono>
#include <exception>
#include <random>

namespace reuse {
namespace {

uint64_t draw() {
  try {
    std::random_device source;
    return uint64_t{source()} << 32 | source();
  } catch (const std::exception&) {  // a machine without a source of random numbers
    return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count()) * 0x9E3779B97F4A7C15ull;
  }
}

}  // namespace

uint64_t slot_key() {
  static const uint64_t key = draw() | 1;
  return key;
}

}  // namespace reuse
