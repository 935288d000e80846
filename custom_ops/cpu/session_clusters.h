// Cluster of scope session: vectors take kept clusters, and the others are clustered among themselves.
#pragma once

#include <vector>

#include "kept_clusters.h"
#include "reuse/operators.h"

namespace reuse {

// Ids [B, V], and what is new. An id is what `KnownIds` says of a kept cluster, and -1 - c for new cluster c.
struct SessionClusters {
  explicit SessionClusters(Allocator& allocator) : ids(allocator) {}
  Buffer<int32_t> ids;
  std::vector<NewClusters> blocks;
};

// How kept clusters are told: by their place in the block, or by their row of the pool.
enum class KnownIds { kPlaces, kRows };

// Hash and Cluster in one.
SessionClusters hash_and_cluster(Workspace& workspace, const Blocking& blocking, const Encoder& encoder,
                                 const ClusterAttributes& attributes, const KeptRun& run, KnownIds known,
                                 const float* x);

// Cluster.
SessionClusters cluster(Workspace& workspace, const Blocking& blocking, const ClusterAttributes& attributes,
                        const KeptRun& run, KnownIds known, const float* x, const int64_t* codes);

// Replaces the ids of a block's new clusters by those that `new_id(c)` returns.
template <typename NewId>
void number_new(const Blocking& blocking, SessionClusters& clusters, int64_t block, const NewId& new_id) {
  if (clusters.blocks[static_cast<size_t>(block)].clusters.count == 0) return;
  int32_t* ids = clusters.ids.data() + block * blocking.vectors;
  for (int64_t v = 0; v < blocking.vectors; ++v) {
    if (ids[v] < 0) ids[v] = new_id(-1 - ids[v]);
  }
}

}  // namespace reuse
