// A C function that runs the CUDA kernels on the host, for the Python tests (tests/custom_ops/cuda_host.py).
#include <algorithm>
#include <cstdio>
#include <exception>

#include "../cuda/setup.h"
#include "cuda_support.h"

namespace {

using namespace reuse;
using namespace reuse::testing;

// What to compute; sizes and settings as docs/operators.md has them, names as their position among those listed there.
struct Settings {
  int64_t batch, in_channels, in_h, in_w, out_channels;
  int64_t kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, pad_bottom, pad_right, dilation_h, dilation_w;
  int64_t group, layout, sub_vector_length, input_order, output_order;
  int64_t num_hashes, scope, metric, verify;
  int64_t activation, mode, staged, order, path, table, keep_tables;
};

Blocking blocking_of(const Settings& s) {
  ConvAttributes a;
  a.kernel_h = s.kernel_h;
  a.kernel_w = s.kernel_w;
  a.stride_h = s.stride_h;
  a.stride_w = s.stride_w;
  a.pad_top = s.pad_top;
  a.pad_left = s.pad_left;
  a.pad_bottom = s.pad_bottom;
  a.pad_right = s.pad_right;
  a.dilation_h = s.dilation_h;
  a.dilation_w = s.dilation_w;
  a.group = s.group;
  a.layout = static_cast<Layout>(s.layout);
  a.sub_vector_length = s.sub_vector_length;
  a.input_order = static_cast<DataOrder>(s.input_order);
  a.output_order = static_cast<DataOrder>(s.output_order);
  return Blocking::make(ConvGeometry::make(a, s.batch, s.in_channels, s.in_h, s.in_w, s.out_channels));
}

}  // namespace

extern "C" {

// Writes Y and returns 0, or writes a sentence to `message` and returns -1. `bias` and parameters may be null.
// `activation_params` has two elements.
__attribute__((visibility("default"))) int32_t reuse_cuda_host_conv(const Settings* settings, const char* family,
                                                                    float capacity, const float* activation_params,
                                                                    const float* x, const float* w, const float* bias,
                                                                    const float* projections, const float* thresholds,
                                                                    const int32_t* coordinates, const float* centroids,
                                                                    float* y, char* message, size_t message_size) {
  try {
    const Settings& s = *settings;
    CudaProblem p;
    p.blocking = blocking_of(s);
    const ConvGeometry& g = p.blocking.geometry;
    p.hash = cuda::make_hash({&find_hash_family(family), s.num_hashes}, {projections, thresholds, coordinates});
    p.cluster.scope = static_cast<Scope>(s.scope);
    p.cluster.metric = static_cast<Metric>(s.metric);
    p.cluster.capacity = capacity;
    p.cluster.verify = s.verify != 0;
    p.activation = {static_cast<Activation>(s.activation), activation_params[0], activation_params[1]};
    p.limits = kPaths[s.path];
    p.x.assign(x, x + g.batch * g.in_channels * g.in_pixels());
    p.w.assign(w, w + g.out_channels * g.group_in_channels() * g.taps());
    if (bias != nullptr) p.bias.assign(bias, bias + g.out_channels);
    p.table = static_cast<TableType>(s.table);
    p.keep_tables = s.keep_tables != 0;
    if (centroids != nullptr) {
      p.centroids.assign(centroids, centroids + (p.blocking.num_blocks() << s.num_hashes) * s.sub_vector_length);
    }
    RunStatistics statistics;
    const auto mode = static_cast<CudaMode>(s.mode);
    const auto order = static_cast<BlockOrder>(s.order);
    const std::vector<float> result =
        s.staged != 0 ? run_cuda_staged(p, mode, order, statistics) : run_cuda_fused(p, mode, order, statistics);
    std::copy(result.begin(), result.end(), y);
    return 0;
  } catch (const std::exception& error) {
    std::snprintf(message, message_size, "%s", error.what());
    return -1;
  }
}
}
