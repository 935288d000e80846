/* The C interface of the operator library, for Python (ctypes) and other callers outside ONNX Runtime. */
#pragma once

#include <stdint.h>

#if defined(_WIN32)
#define REUSE_EXPORT __declspec(dllexport)
#else
#define REUSE_EXPORT __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Version of the library, the same as the Python package's. */
REUSE_EXPORT const char* reuse_version(void);

/* Returns what the last failed call of this thread has to say; never null. */
REUSE_EXPORT const char* reuse_last_error(void);

/* Name of the instruction set in use (reuse/isa.h); null if REUSE_ISA of the environment names none that is known. */
REUSE_EXPORT const char* reuse_isa(void);

/* 1 if the library has CUDA kernels, else 0. */
REUSE_EXPORT int32_t reuse_has_cuda(void);

/* Writes the statistics of a session's nodes as JSON (docs/operators.md, Statistics) and a terminating 0 to `buffer`,
 * at most `size` bytes. Returns the bytes that the whole text needs, or -1 on failure. The session is the one whose
 * options had the config entry `ai.reuse.session` set to `session_tag` when the library was registered; "" for those
 * without. Names have the model's own bytes, which need not be UTF-8. */
REUSE_EXPORT int64_t reuse_statistics_json(const char* session_tag, char* buffer, int64_t size);

/* Sets a session's sums to zero. */
REUSE_EXPORT void reuse_statistics_reset(const char* session_tag);

/* Forgets a session that is gone. */
REUSE_EXPORT void reuse_statistics_forget(const char* session_tag);

/* Forgets all clusters and sums that a session's nodes keep; runs that have begun still use them. */
REUSE_EXPORT void reuse_reset_clusters(const char* session_tag);

/* Fits trees of family `learned` to `count` finite row-major vectors of `length` elements (reuse/tree_fit.h): tree i
 * has depths[i] comparisons and at most leaves[i] leaves, and 2^depths[i] - 1 coordinates and thresholds in level
 * order, written tree after tree. Returns 0, or -1 on failure. */
REUSE_EXPORT int32_t reuse_fit_trees(const float* vectors, int64_t count, int64_t length, const float* importance,
                                     int64_t num_trees, const int64_t* depths, const int64_t* leaves,
                                     int32_t* coordinates, float* thresholds);

#ifdef __cplusplus
}
#endif
