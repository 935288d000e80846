// The hash families, one file each; a new one is declared here and listed in registry.cc (see CONTRIBUTING.md).
#pragma once

#include <algorithm>
#include <memory>

#include "reuse/hash_family.h"

namespace reuse {

const HashFamily& sign_family();
const HashFamily& learned_family();
const HashFamily& exact_family();

// A family by its encoder, which is made of allocator, parameters and shape and has a static `kName` and `check`.
template <typename OwnEncoder>
class FamilyOf final : public HashFamily {
 public:
  explicit FamilyOf(bool lossless = false) : HashFamily(OwnEncoder::kName, lossless) {}
  void check(const HashParameterSizes& sizes, const HashShape& shape) const override {
    OwnEncoder::check(sizes, shape);
  }
  std::unique_ptr<Encoder> encoder(Allocator& allocator, const HashParameters& parameters,
                                   const HashShape& shape) const override {
    return std::make_unique<OwnEncoder>(allocator, parameters, shape);
  }
};

// Returns a copy of an array.
template <typename T>
Buffer<T> copied(Allocator& allocator, const T* values, int64_t count) {
  Buffer<T> copy(allocator, static_cast<size_t>(count));
  std::copy_n(values, count, copy.data());
  return copy;
}

// Throws std::invalid_argument unless the parameter is present with `expected` elements.
void require_parameter(const char* family, const char* name, int64_t size, int64_t expected);
// Throws std::invalid_argument unless 1 <= num_hashes <= largest.
void require_num_hashes(const char* family, int64_t num_hashes, int64_t largest);

}  // namespace reuse
