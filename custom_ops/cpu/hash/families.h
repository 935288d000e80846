// The hash families, one file each; a new one is declared here and listed in registry.cc (see CONTRIBUTING.md).
#pragma once

#include <algorithm>

#include "reuse/hash_family.h"

namespace reuse {

const HashFamily& sign_family();
const HashFamily& learned_family();
const HashFamily& exact_family();

// Returns a copy of an array.
template <typename T>
Buffer<T> copied(Allocator& allocator, const T* values, int64_t count) {
  Buffer<T> copy(allocator, static_cast<size_t>(count));
  std::copy_n(values, count, copy.data());
  return copy;
}

}  // namespace reuse
