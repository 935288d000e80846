// The multiplication that CentroidGemm and ReuseConv share.
#pragma once

#include "reuse/operators.h"
#include "reuse/runtime.h"

namespace reuse {

// Centroids that one task of a parallel loop multiplies.
constexpr int64_t kTaskCentroids = 64;

// table[c, n] = centroids[c, :] . panel[:, n] for c < count, n < width.
void multiply_centroids(Context& context, const float* centroids, int64_t count, int64_t length, const float* panel,
                        int64_t panel_stride, int64_t width, float* table, int64_t table_stride);

}  // namespace reuse
