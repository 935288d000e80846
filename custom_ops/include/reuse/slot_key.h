// What hash tables spread codes with.
#pragma once

#include <cstdint>

namespace reuse {

// An odd number that is drawn once per process. Where a code lies in a table depends on it, so that nobody can write a
// file or an image whose codes all fall into one slot; results do not depend on it.
uint64_t slot_key();

}  // namespace reuse
