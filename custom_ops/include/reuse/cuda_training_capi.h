/* The C interface for training on CUDA tensors: the functions of reuse/training_capi.h on device memory of the caller.
 * Only libraries with CUDA kernels have them (reuse_has_cuda).
 *
 * All arrays are float32 or integers in the memory of the calling thread's current device, those of `hashing` too.
 * Every call enqueues kernels on the stream and returns; nothing is waited for, and no memory is allocated: functions
 * named _bytes say how much a call needs for itself, at an address that is a multiple of 16. Functions that fail
 * return -1, and reuse_last_error tells the calling thread why. */
#pragma once

#include "reuse/training_capi.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  void* stream; /* cudaStream_t */
  int32_t tf32; /* whether products of the forward pass may be rounded to TF32 */
} reuse_cuda_execution;

/* The clusters of one input. */
typedef struct {
  int64_t rows;           /* of centroids, per block: at least as many as any block has clusters */
  const int32_t* ids;     /* [B, V] */
  const int32_t* counts;  /* [B]: clusters */
  const float* centroids; /* [B, rows, L] */
  const int32_t* order;   /* [B, V]: vectors by cluster, and within one as they come; for the backward pass only */
  const int32_t* starts;  /* [B, rows + 1]: where clusters begin in order, absent ones at its end; likewise */
} reuse_cuda_clusters;

/* Clustering, first step: writes codes [B, V], ids and counts, and into `numbering` what the second step reads. */
REUSE_EXPORT int64_t reuse_cuda_number_bytes(const reuse_convolution* convolution, const reuse_hashing* hashing);
REUSE_EXPORT int32_t reuse_cuda_number(const reuse_convolution* convolution, const reuse_hashing* hashing,
                                       const reuse_cuda_execution* execution, const float* x, int64_t* codes,
                                       int32_t* ids, int32_t* counts, void* numbering);

/* Second step: writes centroids [B, rows, L], where counts told how many rows there must be. */
REUSE_EXPORT int64_t reuse_cuda_average_bytes(const reuse_convolution* convolution, const reuse_hashing* hashing,
                                              int64_t rows);
REUSE_EXPORT int32_t reuse_cuda_average(const reuse_convolution* convolution, const reuse_hashing* hashing,
                                        const reuse_cuda_execution* execution, const float* x, const int32_t* ids,
                                        const int32_t* counts, void* numbering, int64_t rows, float* centroids,
                                        void* memory);

/* Forward pass: y = centroids . weights, gathered, plus bias [M] (or null). */
REUSE_EXPORT int64_t reuse_cuda_forward_bytes(const reuse_convolution* convolution, int64_t rows);
REUSE_EXPORT int32_t reuse_cuda_forward(const reuse_convolution* convolution, const reuse_cuda_clusters* clusters,
                                        const reuse_cuda_execution* execution, const float* weights, const float* bias,
                                        float* y, void* memory);

/* Backward pass (reuse/training.h): writes `grad_weights` [M, Ic/group, kh, kw] and `grad_x`; either may be null. */
REUSE_EXPORT int64_t reuse_cuda_backward_bytes(const reuse_convolution* convolution, int64_t rows);
REUSE_EXPORT int32_t reuse_cuda_backward(const reuse_convolution* convolution, const reuse_cuda_clusters* clusters,
                                         const reuse_cuda_execution* execution, const float* weights,
                                         const float* grad_y, float* grad_weights, float* grad_x, void* memory);

#ifdef __cplusplus
}
#endif
