// Clusters of the patch layout in one pass: while a tile of windows is in the cache, it is hashed, numbered and added
// to its clusters' sums.
#pragma once

#include "reuse/operators.h"
#include "reuse/runtime.h"

namespace reuse {

// Whether cluster_windows is meant for these vectors and does what the attributes say.
bool windows_in_one_pass(const Blocking& blocking, const ClusterAttributes& attributes);

// Clusters one block: writes its vectors' ids and returns its clusters with their centroids, the members' means.
BlockClusters cluster_windows(Allocator& allocator, const Blocking& blocking, const Encoder& encoder,
                              const ClusterAttributes& attributes, const float* x, int64_t block, int32_t* ids);

}  // namespace reuse
