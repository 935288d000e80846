// Operator CentroidGemm: products of centroids with the weights of their block.
#include "centroid_gemm.h"

#include <algorithm>

#include "simd/kernels.h"

namespace reuse {

void multiply_centroids(Context& context, const float* centroids, int64_t count, int64_t length, const float* panel,
                        int64_t panel_stride, int64_t width, float* table, int64_t table_stride) {
  const int64_t tasks = (count + kTaskCentroids - 1) / kTaskCentroids;
  context.parallel.run(tasks, [&](int64_t task) {
    const int64_t begin = task * kTaskCentroids;
    const int64_t rows = std::min(kTaskCentroids, count - begin);
    simd::kernels().gemm(centroids + begin * length, rows, length, panel, panel_stride, width,
                         table + begin * table_stride, table_stride);
  });
}

void centroid_gemm(Context& context, const Blocking& blocking, const PackedWeights& weights, const float* centroids,
                   const int32_t* counts, int64_t capacity, float* table) {
  const int64_t length = blocking.sub_vector_length(), width = blocking.table_width();
  for (int64_t block = 0; block < blocking.num_blocks(); ++block) {
    const int64_t count = std::clamp<int64_t>(counts[block], 0, capacity);
    float* rows = table + block * capacity * width;
    multiply_centroids(context, centroids + block * capacity * length, count, length, weights.panel(block, 0),
                       weights.panel_stride(0), width, rows, width);
    std::fill(rows + count * width, rows + capacity * width, 0.0f);
  }
}

}  // namespace reuse
