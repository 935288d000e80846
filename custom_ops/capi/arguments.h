// What the C functions for training are given, as the operators have it.
#pragma once

#include "reuse/operators.h"
#include "reuse/training_capi.h"

namespace reuse::capi {

// Each throws std::invalid_argument for what makes no sense.
ConvAttributes conv_attributes_of(const reuse_convolution& convolution);
Blocking blocking_of(const reuse_convolution& convolution);
ClusterAttributes cluster_attributes_of(const reuse_hashing& hashing);
HashParameterSizes sizes_of(const reuse_hashing& hashing);
// The sizes of the parameters are checked, their elements are not.
HashAttributes hash_attributes_of(const reuse_hashing& hashing, const Blocking& blocking);

}  // namespace reuse::capi
