// The multiplication that CentroidGemm and ReuseConv share.
#pragma once

#include "reuse/operators.h"
#include "reuse/runtime.h"

namespace reuse {

// A block's centroids, the weights to multiply them with, and where the products go.
struct Product {
  const float* centroids;  // [count, length]
  int64_t count;
  const float* panel;
  void* table;                     // [count, table_stride], float32, or int8 with `inverse`
  const float* inverse = nullptr;  // of the tile's channels (simd/kernels.h, gemm_int8)
};

// table[c, n] = centroids[c, :] . panel[:, n] for n < width, for all products in one parallel loop. If `taps` > 1, the
// panel holds that many pieces of `width` columns, `tap_columns` apart, whose products lie beside each other.
void multiply_centroids(Workspace& workspace, const std::vector<Product>& products, int64_t length, int64_t width,
                        int64_t taps, int64_t tap_columns, int64_t table_stride);

}  // namespace reuse
