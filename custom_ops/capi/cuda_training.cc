#include "reuse/cuda_training.h"

#include <stdexcept>

#include "arguments.h"
#include "errors.h"

namespace {

using namespace reuse;
using capi::blocking_of;
using capi::guarded;

cuda::Execution execution_of(const reuse_cuda_execution& e) { return {e.stream, e.tf32 != 0}; }

HashParameters parameters_of(const reuse_hashing& h) { return {h.projections, h.thresholds, h.coordinates}; }

ClusterAttributes attributes_of(const reuse_hashing& h) {
  const ClusterAttributes attributes = capi::cluster_attributes_of(h);
  if (attributes.scope == Scope::kStatic) throw std::invalid_argument("scope static has no clusters to be numbered");
  return attributes;
}

// Runs `body`, whose result is a size.
template <typename Body>
int64_t guarded_size(const Body& body) {
  return guarded<int64_t>(-1, [&] { return static_cast<int64_t>(body()); });
}

// Runs `body`, which has no result.
template <typename Body>
int32_t guarded_call(const Body& body) {
  return guarded<int32_t>(-1, [&] {
    body();
    return 0;
  });
}

}  // namespace

extern "C" {

int64_t reuse_cuda_number_bytes(const reuse_convolution* convolution, const reuse_hashing* hashing) {
  return guarded_size([&] {
    const Blocking blocking = blocking_of(*convolution);
    return cuda::numbering_bytes(blocking, capi::hash_attributes_of(*hashing, blocking), attributes_of(*hashing));
  });
}

int32_t reuse_cuda_number(const reuse_convolution* convolution, const reuse_hashing* hashing,
                          const reuse_cuda_execution* execution, const float* x, int64_t* codes, int32_t* ids,
                          int32_t* counts, void* numbering) {
  return guarded_call([&] {
    const Blocking blocking = blocking_of(*convolution);
    cuda::number(execution_of(*execution), blocking, capi::hash_attributes_of(*hashing, blocking),
                 parameters_of(*hashing), attributes_of(*hashing), x, codes, ids, counts, numbering);
  });
}

int64_t reuse_cuda_average_bytes(const reuse_convolution* convolution, const reuse_hashing* hashing, int64_t rows) {
  return guarded_size([&] {
    const Blocking blocking = blocking_of(*convolution);
    return cuda::average_scratch(blocking, capi::hash_attributes_of(*hashing, blocking), attributes_of(*hashing),
                                 capi::checked_rows(rows));
  });
}

int32_t reuse_cuda_average(const reuse_convolution* convolution, const reuse_hashing* hashing,
                           const reuse_cuda_execution* execution, const float* x, const int32_t* ids,
                           const int32_t* counts, void* numbering, int64_t rows, float* centroids, void* memory) {
  return guarded_call([&] {
    const Blocking blocking = blocking_of(*convolution);
    cuda::average(execution_of(*execution), blocking, capi::hash_attributes_of(*hashing, blocking),
                  attributes_of(*hashing), x, ids, counts, numbering, capi::checked_rows(rows), centroids, memory);
  });
}

int64_t reuse_cuda_forward_bytes(const reuse_convolution* convolution, int64_t rows) {
  return guarded_size([&] { return cuda::forward_scratch(blocking_of(*convolution), capi::checked_rows(rows)); });
}

int32_t reuse_cuda_forward(const reuse_convolution* convolution, const reuse_cuda_clusters* clusters,
                           const reuse_cuda_execution* execution, const float* weights, const float* bias, float* y,
                           void* memory) {
  return guarded_call([&] {
    capi::checked_rows(clusters->rows);
    cuda::forward(execution_of(*execution), blocking_of(*convolution), *clusters, weights, bias, y, memory);
  });
}

int64_t reuse_cuda_backward_bytes(const reuse_convolution* convolution, int64_t rows) {
  return guarded_size([&] { return cuda::backward_scratch(blocking_of(*convolution), capi::checked_rows(rows)); });
}

int32_t reuse_cuda_backward(const reuse_convolution* convolution, const reuse_cuda_clusters* clusters,
                            const reuse_cuda_execution* execution, const float* weights, const float* grad_y,
                            float* grad_weights, float* grad_x, void* memory) {
  return guarded_call([&] {
    capi::checked_rows(clusters->rows);
    cuda::backward(execution_of(*execution), blocking_of(*convolution), *clusters, weights, grad_y,
                   {grad_weights, grad_x}, memory);
  });
}

}  // extern "C"
