// Centroids of clusters whose members are known.
#pragma once

#include "reuse/operators.h"
#include "reuse/runtime.h"

namespace reuse {

// Fills in the centroids of all blocks from ids and members, by the attributes' metric (docs/operators.md, Cluster).
void write_centroids(Workspace& workspace, const Blocking& blocking, const ClusterAttributes& attributes,
                     const float* x, Clusters& clusters);

}  // namespace reuse
