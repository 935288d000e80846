// What the C functions for training are given, as the operators have it, and how they fail.
#pragma once

#include <exception>
#include <string>

#include "reuse/operators.h"
#include "reuse/training_capi.h"

namespace reuse::capi {

// What the last call of this thread that failed has to say.
std::string& last_error();

// Runs `body`; returns what `failed` is after an exception, whose message is kept.
template <typename Result, typename Body>
Result guarded(Result failed, const Body& body) {
  try {
    return body();
  } catch (const std::exception& error) {
    last_error() = error.what();
    return failed;
  }
}

// Each throws std::invalid_argument for what makes no sense.
Blocking blocking_of(const reuse_convolution& convolution);
ClusterAttributes cluster_attributes_of(const reuse_hashing& hashing);
// The sizes of the parameters are checked, their elements are not.
HashAttributes hash_attributes_of(const reuse_hashing& hashing, const Blocking& blocking);

}  // namespace reuse::capi
