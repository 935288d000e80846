// Training's operators in device memory (reuse/training.h has the CPU's): float32, free of CUDA's headers. Every call
// enqueues kernels on a stream and returns. Scratch memory is the caller's: as many bytes as the function before says,
// at an address that is a multiple of 16.
#pragma once

#include <cstddef>
#include <cstdint>

#include "reuse/cuda_operators.h"
#include "reuse/cuda_training_capi.h"
#include "reuse/training.h"

namespace reuse::cuda {

// The clusters of one input, in which every vector has one.
using DeviceClusters = reuse_cuda_clusters;

// Hashes and numbers: writes codes [B, V], ids and counts. How many rows centroids need is known then, so they are
// written by another call, from what this one leaves in `numbering`.
size_t numbering_bytes(const Blocking& blocking, const HashAttributes& hash, const ClusterAttributes& cluster);
void number(const Execution& execution, const Blocking& blocking, const HashAttributes& hash,
            const HashParameters& parameters, const ClusterAttributes& cluster, const float* x, int64_t* codes,
            int32_t* ids, int32_t* counts, void* numbering);

// Writes centroids [B, rows, L] of the clusters that exist.
size_t average_scratch(const Blocking& blocking, const HashAttributes& hash, const ClusterAttributes& cluster,
                       int64_t rows);
void average(const Execution& execution, const Blocking& blocking, const HashAttributes& hash,
             const ClusterAttributes& cluster, const float* x, const int32_t* ids, const int32_t* counts,
             void* numbering, int64_t rows, float* centroids, void* scratch);

// y = centroids . weights, gathered, plus bias [M] (or null).
size_t forward_scratch(const Blocking& blocking, int64_t rows);
void forward(const Execution& execution, const Blocking& blocking, const DeviceClusters& clusters, const float* weights,
             const float* bias, float* y, void* scratch);

// The backward pass of reuse/training.h.
size_t backward_scratch(const Blocking& blocking, int64_t rows);
void backward(const Execution& execution, const Blocking& blocking, const DeviceClusters& clusters,
              const float* weights, const float* dy, const Gradients& gradients, void* scratch);

}  // namespace reuse::cuda
