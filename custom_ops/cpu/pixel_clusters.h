// Clusters of short vectors of a pixel-major input in one pass: while a tile of pixels is in the cache, all vectors of
// some of its cache lines are hashed, numbered and added to their clusters' sums. (Planes of channels have no lines in
// common, so that reading them twice costs nothing.)
#pragma once

#include <vector>

#include "reuse/operators.h"
#include "reuse/runtime.h"

namespace reuse {

// Whether cluster_pixels is meant for these vectors and does what the attributes say.
bool pixels_in_one_pass(const Blocking& blocking, const ClusterAttributes& attributes);

// Blocks that cluster_pixels takes at once, as they share cache lines.
int64_t pixel_blocks_together(const Blocking& blocking);

// Clusters some blocks: writes their vectors' ids, `ids` being [B, V] of all blocks, and returns their clusters with
// the centroids, the members' means.
std::vector<BlockClusters> cluster_pixels(Allocator& allocator, const Blocking& blocking, const Encoder& encoder,
                                          const ClusterAttributes& attributes, const float* x, BlockRange blocks,
                                          int32_t* ids);

}  // namespace reuse
