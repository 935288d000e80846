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

/* Name of the instruction set in use: baseline, avx2 or avx512 (REUSE_ISA in the environment forces one). */
REUSE_EXPORT const char* reuse_isa(void);

/* Writes the statistics of a session's nodes as JSON (docs/operators.md, Statistics) and a terminating 0 to `buffer`,
 * at most `size` bytes. Returns the bytes that the whole text needs, or -1 on failure. The session is the one whose
 * options had the config entry `ai.reuse.session` set to `session_tag` when the library was registered; "" for those
 * without. */
REUSE_EXPORT int64_t reuse_statistics_json(const char* session_tag, char* buffer, int64_t size);

/* Sets a session's sums to zero. */
REUSE_EXPORT void reuse_statistics_reset(const char* session_tag);

/* Forgets a session that is gone. */
REUSE_EXPORT void reuse_statistics_forget(const char* session_tag);

#ifdef __cplusplus
}
#endif
