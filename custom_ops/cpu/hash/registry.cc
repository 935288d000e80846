#include <algorithm>
#include <stdexcept>
#include <string>

#include "../simd/kernels.h"
#include "families.h"
#include "reuse/text.h"

namespace reuse {
namespace {

template <typename Code>
bool narrowed_codes(const Encoder& encoder, const Tile& tile, int64_t block, float* scratch, Code* codes) {
  int64_t wide[kTileVectors];
  const bool all_finite = encoder.codes(tile, block, scratch, wide);
  std::transform(wide, wide + tile.count, codes, [](int64_t code) { return static_cast<Code>(code); });
  if (all_finite) return true;
  uint8_t finite[kTileVectors];
  simd::kernels().all_finite(tile.values, tile.stride, tile.length, tile.count, finite);
  return std::all_of(finite, finite + tile.count, [](uint8_t own) { return own != 0; });
}

}  // namespace

bool Encoder::narrow_codes(const Tile& tile, int64_t block, float* scratch, uint8_t* codes) const {
  return narrowed_codes(*this, tile, block, scratch, codes);
}

bool Encoder::narrow_codes(const Tile& tile, int64_t block, float* scratch, uint16_t* codes) const {
  return narrowed_codes(*this, tile, block, scratch, codes);
}

const std::vector<const HashFamily*>& hash_families() {
  static const std::vector<const HashFamily*> families{&sign_family(), &learned_family(), &exact_family()};
  return families;
}

const HashFamily& find_hash_family(const std::string& name) {
  std::string known;
  for (const HashFamily* family : hash_families()) {
    if (name == family->name()) return *family;
    known += std::string(known.empty() ? "" : ", ") + family->name();
  }
  throw std::invalid_argument("family is '" + readable(name) + "', must be one of " + known);
}

void HashFamily::check(const HashParameterSizes& sizes, const HashShape& shape) const {
  const std::string family = std::string("family ") + name() + ": ";
  if (max_hashes() > 0 && (shape.num_hashes < 1 || shape.num_hashes > max_hashes())) {
    throw std::invalid_argument(family + "num_hashes is " + std::to_string(shape.num_hashes) + ", must be 1 to " +
                                std::to_string(max_hashes()));
  }
  const HashParameterSizes needed = required(shape), possible = optional(shape);
  const auto check_one = [&](const char* parameter, int64_t HashParameterSizes::* member) {
    const int64_t size = sizes.*member;
    const bool must = needed.*member >= 0, may = possible.*member >= 0 && size >= 0;
    if (!must && !may) return;
    const int64_t expected = must ? needed.*member : possible.*member;
    if (size == expected) return;
    const std::string found = size < 0 ? "is missing" : "has " + std::to_string(size) + " elements";
    throw std::invalid_argument(family + "parameter " + parameter + " " + found + ", needs " +
                                std::to_string(expected));
  };
  check_one("projections", &HashParameterSizes::projections);
  check_one("thresholds", &HashParameterSizes::thresholds);
  check_one("coordinates", &HashParameterSizes::coordinates);
}

}  // namespace reuse
