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
// The sizes of the parameters are checked, and that there are arrays. What is in them is not: make_encoder checks it on
// the CPU, and CUDA's kernels look nowhere outside of a vector whatever it is.
HashAttributes hash_attributes_of(const reuse_hashing& hashing, const Blocking& blocking);
// Those of scope static, null with another scope; their size is checked, and what is in them is not.
const float* centroids_of(const reuse_hashing& hashing, const Blocking& blocking);
// Rows of clusters per block.
int64_t checked_rows(int64_t rows);

}  // namespace reuse::capi
