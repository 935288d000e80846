// Gradients of a convolution with reuse, from the clusters of its forward pass (training paper, section IV).
#pragma once

#include "reuse/operators.h"

namespace reuse {

// What a backward pass writes; null for what is not wanted.
struct Gradients {
  float* weights;  // [M, Ic/group, kh, kw]
  float* x;        // as the input
};

// Backward pass of multiply_and_gather without activation: `dy` is the delta of its output, `weights` [M, Ic/group,
// kh, kw] are those it used. Per block, dy is summed by cluster and tap (Eq. 8); the weights' gradient is the product
// with the centroids (Eq. 9, 10); the delta of a centroid is that of the mean over its members (Eq. 13-18), which is
// also the delta of each member. Results do not depend on the number of threads.
void backward(Workspace& workspace, const Blocking& blocking, const Clusters& clusters, const float* weights,
              const float* dy, const Gradients& gradients);

}  // namespace reuse
