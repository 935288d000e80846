// Operator CentroidGemm: products of centroids with the weights of their block.
#include "centroid_gemm.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "heuristics.h"
#include "simd/kernels.h"
#include "stopwatch.h"

namespace reuse {

void multiply_centroids(Workspace& workspace, const std::vector<Product>& products, int64_t length, int64_t width,
                        int64_t taps, int64_t tap_columns, int64_t table_stride) {
  struct Task {
    const Product* product;
    int64_t begin;
  };
  int64_t total = 0;
  for (const Product& product : products) total += product.count;
  const int64_t per_task = task_centroids(total);
  std::vector<Task> tasks;
  for (const Product& product : products) {
    for (int64_t begin = 0; begin < product.count; begin += per_task) tasks.push_back({&product, begin});
  }
  workspace.parallel.run(static_cast<int64_t>(tasks.size()), [&](int64_t index) {
    const Task& task = tasks[static_cast<size_t>(index)];
    const Product& own = *task.product;
    const int64_t rows = std::min(per_task, own.count - task.begin);
    const float* centroids = own.centroids + task.begin * length;
    if (own.inverse != nullptr) {
      simd::kernels().gemm_int8(centroids, rows, length, own.panel, width, own.inverse,
                                static_cast<uint8_t*>(own.table) + task.begin * table_stride, table_stride);
      return;
    }
    float* table = static_cast<float*>(own.table) + task.begin * table_stride;
    if (width == simd::kLanes) {  // one strip per tap: all of them in one call
      simd::kernels().gemm(centroids, rows, length, own.panel, tap_columns * length, taps * width, table, table_stride);
      return;
    }
    for (int64_t tap = 0; tap < taps; ++tap) {
      simd::kernels().gemm(centroids, rows, length, own.panel + tap * tap_columns * length, length * simd::kLanes,
                           width, table + tap * width, table_stride);
    }
  });
}

void centroid_gemm(Workspace& workspace, const Blocking& blocking, const float* weights, const float* centroids,
                   const int32_t* counts, int64_t capacity, float* table) {
  Stopwatch watch(workspace.statistics.gemm_ns);
  const PackedWeights packed(workspace, blocking, weights);
  const int64_t length = blocking.sub_vector_length(), width = blocking.table_width();
  std::vector<Product> products;
  for (int64_t block = 0; block < blocking.num_blocks(); ++block) {
    const int64_t count = counts[block];
    if (count < 0 || count > capacity) {
      throw std::out_of_range("counts hold " + std::to_string(count) + ", but centroids have " +
                              std::to_string(capacity) + " rows per block");
    }
    float* rows = table + block * capacity * width;
    products.push_back({centroids + block * capacity * length, count, packed.panel(block, 0), rows, nullptr});
    std::fill(rows + count * width, rows + capacity * width, 0.0f);
  }
  multiply_centroids(workspace, products, length, width, 1, 0, width);
}

}  // namespace reuse
