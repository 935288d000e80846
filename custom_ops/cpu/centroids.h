// Centroids of clusters whose members are known.
#pragma once

#include "reuse/operators.h"
#include "reuse/runtime.h"

namespace reuse {

// Fills in the centroids of some blocks (all, if the input is pixel-major) from ids and members, by the attributes'
// metric (docs/operators.md, Cluster).
void write_centroids(Workspace& workspace, const Blocking& blocking, const ClusterAttributes& attributes,
                     const float* x, BlockRange blocks, Clusters& clusters);

}  // namespace reuse
