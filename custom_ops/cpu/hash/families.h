// The hash families, one file each; a new one is declared here and listed in registry.cc (see CONTRIBUTING.md).
#pragma once

#include "reuse/hash_family.h"

namespace reuse {

const HashFamily& sign_family();
const HashFamily& pstable_family();
const HashFamily& learned_family();
const HashFamily& exact_family();

// Throws std::invalid_argument unless the parameter is present with `expected` elements.
void require_parameter(const char* family, const char* name, int64_t size, int64_t expected);
// Throws std::invalid_argument unless 1 <= num_hashes <= largest.
void require_num_hashes(const char* family, int64_t num_hashes, int64_t largest);

}  // namespace reuse
