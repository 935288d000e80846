// Training's operators. nvcc compiles this for a GPU; the tests' C++ compiler for the host, as launcher.h says.
#include "launcher.h"
#include "training_pipeline.h"

namespace reuse::cuda {

size_t numbering_bytes(const Blocking& blocking, const HashAttributes& hash, const ClusterAttributes& cluster) {
  return clustering_of(blocking, hash, cluster).numbering_bytes();
}

void number(const Execution& execution, const Blocking& blocking, const HashAttributes& hash,
            const HashParameters& parameters, const ClusterAttributes& cluster, const float* x, int64_t* codes,
            int32_t* ids, int32_t* counts, void* numbering) {
  auto launcher = make_launcher(execution);
  clustering_of(blocking, hash, cluster)
      .hash_and_number(launcher, make_hash(hash, parameters), x, codes, ids, counts, numbering);
}

size_t average_scratch(const Blocking& blocking, const HashAttributes& hash, const ClusterAttributes& cluster,
                       int64_t rows) {
  return clustering_of(blocking, hash, cluster).sums_bytes(to_int32(rows, "the number of clusters"));
}

void average(const Execution& execution, const Blocking& blocking, const HashAttributes& hash,
             const ClusterAttributes& cluster, const float* x, const int32_t* ids, const int32_t* counts,
             void* numbering, int64_t rows, float* centroids, void* scratch) {
  auto launcher = make_launcher(execution);
  clustering_of(blocking, hash, cluster)
      .average(launcher, x, ids, counts, numbering, to_int32(rows, "the number of clusters"), centroids, scratch);
}

size_t forward_scratch(const Blocking& blocking, int64_t rows) { return ForwardPass(blocking, rows).scratch_bytes(); }

void forward(const Execution& execution, const Blocking& blocking, const DeviceClusters& clusters, const float* weights,
             const float* bias, float* y, void* scratch) {
  auto launcher = make_launcher(execution);
  ForwardPass(blocking, clusters.rows).run(launcher, execution.tf32, clusters, weights, bias, y, scratch);
}

size_t backward_scratch(const Blocking& blocking, int64_t rows) { return BackwardPass(blocking, rows).scratch_bytes(); }

void backward(const Execution& execution, const Blocking& blocking, const DeviceClusters& clusters,
              const float* weights, const float* dy, const Gradients& gradients, void* scratch) {
  auto launcher = make_launcher(execution);
  BackwardPass(blocking, clusters.rows).run(launcher, clusters, weights, dy, gradients, scratch);
}

}  // namespace reuse::cuda
