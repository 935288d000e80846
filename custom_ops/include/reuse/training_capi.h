/* The C interface for training: clustering, forward and backward pass of a convolution on the caller's float32 memory.
 *
 * All pointers are read or written in place. Functions that fail return null or -1, and reuse_last_error tells the
 * calling thread why. All may be called from several threads at once, and share the library's own threads, of which a
 * call uses `threads` with its own; results do not depend on how many. */
#pragma once

#include <stdint.h>

#include "reuse/capi.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A convolution on an input of known size, and how its unfolded input is cut (docs/operators.md). Pads are resolved:
 * begin h, begin w, end h, end w. */
typedef struct {
  int64_t batch, in_channels, in_height, in_width, out_channels;
  int64_t kernel[2], strides[2], pads[4], dilations[2];
  int64_t group;
  int64_t sub_vector_length;
  int32_t patch;              /* layout patch, else channel */
  int32_t pixel_major_input;  /* x is [N, H, W, channels] (layout channel only), else [N, channels, H, W] */
  int32_t pixel_major_output; /* likewise y */
} reuse_convolution;

/* How neuron vectors are hashed and clustered. Absent arrays are null with size -1; sizes count elements. */
typedef struct {
  const char* family;
  int64_t num_hashes;
  int32_t scope;          /* 0: batch, 1: image, 2: static */
  int32_t metric_angular; /* else euclidean */
  float capacity;
  int32_t keep_codes; /* reuse_clusters_codes is going to be asked for */
  const float* projections;
  int64_t projections_size;
  const float* thresholds;
  int64_t thresholds_size;
  const int32_t* coordinates;
  int64_t coordinates_size;
  const float* centroids; /* of scope static, by code: [B, 2^num_hashes, sub_vector_length] */
  int64_t centroids_size;
} reuse_hashing;

/* A layer's convolution and hash, made ready once for inputs of any size: what the convolution says of its input's
 * batch, height and width is not looked at, and no array is after the call. */
typedef struct reuse_plan reuse_plan;

/* Returns null on failure. To be destroyed; what has come of it stays. */
REUSE_EXPORT reuse_plan* reuse_plan_create(const reuse_convolution* convolution, const reuse_hashing* hashing);
REUSE_EXPORT void reuse_plan_destroy(reuse_plan* plan);

/* The clusters of one input, with the convolution they belong to. */
typedef struct reuse_clusters reuse_clusters;

/* Clusters the neuron vectors of x; null on failure. To be freed. */
REUSE_EXPORT reuse_clusters* reuse_cluster(const reuse_plan* plan, int64_t batch, int64_t height, int64_t width,
                                           const float* x, int64_t threads);
REUSE_EXPORT void reuse_clusters_free(reuse_clusters* clusters);

/* Returns the ids [B, V]. */
REUSE_EXPORT const int32_t* reuse_clusters_ids(const reuse_clusters* clusters);

/* Returns how many clusters a block has, or -1. `centroids` [count, L] and `members` [count] may be changed. */
REUSE_EXPORT int64_t reuse_clusters_block(reuse_clusters* clusters, int64_t block, float** centroids,
                                          int32_t** members);

/* Returns the codes [count] of a block's clusters; null unless they were to be kept. */
REUSE_EXPORT const int64_t* reuse_clusters_codes(const reuse_clusters* clusters, int64_t block);

/* Forward pass: y = centroids . weights, gathered, plus bias [M] (or null). `int8` makes tables of bytes. */
REUSE_EXPORT int32_t reuse_forward(const reuse_clusters* clusters, const float* weights, const float* bias,
                                   int32_t int8, float* y, int64_t threads);

/* Backward pass (reuse/training.h): writes `grad_weights` [M, Ic/group, kh, kw] and `grad_x`; either may be null. */
REUSE_EXPORT int32_t reuse_backward(const reuse_clusters* clusters, const float* weights, const float* grad_y,
                                    float* grad_weights, float* grad_x, int64_t threads);

#ifdef __cplusplus
}
#endif
