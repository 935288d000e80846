// The operators of docs/operators.md in device memory, free of ONNX Runtime, Python and CUDA's headers. Every call
// enqueues kernels on a stream and returns: nothing is waited for, and what is enqueued depends on shapes only.
#pragma once

#include <cstddef>
#include <cstdint>

#include "reuse/operators.h"
#include "reuse/pool.h"

namespace reuse::cuda {

class CopyStream;

// Element type of images, weights, centroids and tables. Hash parameters are float32, sums always are.
enum class Element { kFloat, kHalf };

// Stages of a ReuseConv, for timing.
enum class Stage { kHash, kCluster, kGemm, kGather };

// Bytes that the clusters of one ReuseConv may take in sums, centroids and tables: REUSE_CUDA_TABLE_MIB of the
// environment, else 512 MiB. Clusters beyond are guarded (docs/operators.md, Guard). Throws std::invalid_argument if
// the variable is no such number.
int64_t table_memory();

// How kernels run.
struct Execution {
  void* stream;  // cudaStream_t
  bool tf32;     // whether float32 products may be rounded to TF32
};

// All pointers below are device memory; those of element type `element` are void.

struct FusedCall {
  Element element;
  const Blocking& blocking;
  const HashAttributes& hash;
  const ClusterAttributes& cluster;
  const GatherAttributes& gather;
  HashParameters parameters;
  const void* x;
  const void* bias;      // or null
  const void* prepared;  // by pack_weights, or, with scope static, by make_static
  void* y;
  int64_t* statistics;  // [3]: clusters, guarded vectors and runs are added; or null
};

// Weights [M, Ic/group, kh, kw] in the order that reuse_conv needs; the blocking may be of an input of any size.
size_t packed_weights_bytes(Element element, const Blocking& blocking);
void pack_weights(const Execution& execution, Element element, const Blocking& blocking, const void* weights,
                  void* packed);

// ReuseConv. Times are added to `times` if that is given: then the call waits for the device.
size_t reuse_conv_scratch(const Execution& execution, const FusedCall& call);
void reuse_conv(const Execution& execution, const FusedCall& call, void* scratch, RunStatistics* times);

// What a ReuseConv of scope static has instead of clusters that it finds (docs/operators.md, Static tables).
struct StaticSettings {
  TableType type;
  bool keep;         // from run to run, instead of making them in each
  int64_t clusters;  // 2^H
};

// Bytes of what is made once, and how many of them are tables; the blocking may be of an input of any size.
struct StaticBytes {
  size_t all;
  int64_t tables;
};
StaticBytes static_bytes(Element element, const Blocking& blocking, const StaticSettings& tables);
// Makes it, in `memory`, and waits for it. Throws std::invalid_argument for centroids that are not finite, or if there
// can be no tables of that type.
void make_static(CopyStream& stream, Element element, const Blocking& blocking, const StaticSettings& tables,
                 const void* weights, const void* centroids, void* memory);
// ReuseConv of scope static, as reuse_conv.
size_t static_conv_scratch(const FusedCall& call, const StaticSettings& tables);
void static_conv(const Execution& execution, const FusedCall& call, const StaticSettings& tables, void* scratch,
                 RunStatistics* times);

void hash(const Execution& execution, Element element, const Blocking& blocking, const HashAttributes& attributes,
          const HashParameters& parameters, const void* x, int64_t* codes);

// Cluster: ids [B, V], centroids [B, cluster_rows, L], counts [B].
int64_t cluster_rows(const Blocking& blocking);
size_t cluster_scratch(Element element, const Blocking& blocking, const ClusterAttributes& attributes);
void cluster(const Execution& execution, Element element, const Blocking& blocking, const ClusterAttributes& attributes,
             const void* x, const int64_t* codes, int32_t* ids, void* centroids, int32_t* counts, int64_t* statistics,
             void* scratch);

// Cluster of scope static, whose centroids are `given` [B, C, L]. A code of none of them gets id -1.
int64_t given_rows(const Blocking& blocking, int64_t clusters);
size_t given_scratch(Element element, const Blocking& blocking, int64_t clusters);
void given_clusters(const Execution& execution, Element element, const Blocking& blocking, const void* given,
                    int64_t clusters, const void* x, const int64_t* codes, int32_t* ids, void* centroids,
                    int32_t* counts, int64_t* statistics, void* scratch);

size_t centroid_gemm_scratch(Element element, const Blocking& blocking);
void centroid_gemm(const Execution& execution, Element element, const Blocking& blocking, const void* centroids,
                   const int32_t* counts, const void* weights, int64_t capacity, void* table, void* scratch);

void gather(const Execution& execution, Element element, const Blocking& blocking, const GatherAttributes& attributes,
            const void* table, int64_t capacity, const int32_t* ids, const void* bias, void* y);

void pool(const Execution& execution, Element element, const PoolAttributes& attributes, int64_t batch,
          const PoolAxis& height, const PoolAxis& width, int64_t channels, const void* x, void* y);

// Whether the stream is being captured in a CUDA graph: then nothing may be waited for.
bool is_capturing(void* stream);

}  // namespace reuse::cuda
