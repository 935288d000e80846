// Problems for the CUDA kernels: whole operators in every element type and mode, on the host or on a GPU.
#pragma once

#include <vector>

#include "../cuda/clustering.h"
#include "../cuda/gather_kernels.h"
#include "../cuda/hash_kernels.h"
#include "../cuda/host_launcher.h"

namespace reuse::testing {

using BlockOrder = cuda::HostLauncher::Order;

enum class CudaMode { kStrict, kTf32, kHalf };

// A convolution with reuse settings and data; x and the result are in the orders of the blocking.
struct CudaProblem {
  Blocking blocking;
  cuda::HashOperands hash;
  ClusterAttributes cluster;
  cuda::ActivationOperands activation;
  std::vector<float> x, w, bias;
  cuda::PathLimits limits = {};  // which kernels cluster
  // Of scope static.
  std::vector<float> centroids = {};
  TableType table = TableType::kFloat;
  bool keep_tables = true;
};

// Values as float16 has them.
std::vector<float> rounded_to_half(const std::vector<float>& values);

// The fused and the staged form, whose tables are float32 in mode kTf32. Of `statistics` clusters and guarded vectors
// are set.
std::vector<float> run_cuda_fused(const CudaProblem& problem, CudaMode mode, BlockOrder order,
                                  RunStatistics& statistics);
std::vector<float> run_cuda_staged(const CudaProblem& problem, CudaMode mode, BlockOrder order,
                                   RunStatistics& statistics);

// Tables from centroids [B, rows, L] of which `counts` [B] exist, and panels [tiles, B, L, width]. Before all of them
// in memory are `skew` elements, so that they are not aligned.
struct CudaProduct {
  int32_t tiles, num_blocks, rows, length, width, skew;
  std::vector<int32_t> counts;
  std::vector<float> centroids, panels;
};
// The tables [tiles, B, rows, width]; float16 ones in mode kHalf, and in mode kTf32 if `half_table`. NaN where nothing
// was written.
std::vector<float> run_cuda_product(const CudaProduct& problem, CudaMode mode, bool half_table, BlockOrder order);

// Operator Gather from a table [B, rows, taps, M / groups], in float32 or, in mode kHalf, float16.
std::vector<float> run_cuda_gather(const CudaProblem& problem, CudaMode mode, const std::vector<float>& table,
                                   int64_t rows, const std::vector<int32_t>& ids, BlockOrder order);

// What operator Cluster returns: centroids are [B, rows, L].
struct CudaClusters {
  std::vector<int32_t> ids, counts;
  std::vector<float> centroids;
  int64_t rows;
};
CudaClusters run_cuda_cluster(const CudaProblem& problem, const std::vector<int64_t>& codes, BlockOrder order);

// One step of training: clusters, output without activation, and gradients.
struct CudaStep {
  CudaClusters clusters;
  std::vector<float> y, weights, x;
};
CudaStep run_cuda_step(const CudaProblem& problem, CudaMode mode, const std::vector<float>& dy, BlockOrder order);

// Operator Pool on x [batch, H, W, channels].
std::vector<float> run_cuda_pool(const PoolAttributes& attributes, int64_t batch, const PoolAxis& height,
                                 const PoolAxis& width, int64_t channels, const std::vector<float>& x,
                                 BlockOrder order);

}  // namespace reuse::testing
