#include "reuse/training.h"

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "arguments.h"
#include "errors.h"
#include "workers.h"

struct reuse_clusters {
  reuse::Blocking blocking;
  reuse::Clusters found;
  std::vector<std::vector<int64_t>> codes;  // by block, if they were to be kept
};

namespace {

reuse::AlignedAllocator memory;

// What a kernel needs for one call.
struct Call {
  explicit Call(int64_t threads) : workers(threads) {}
  reuse::Workers workers;
  reuse::RunStatistics statistics;
  reuse::Context context{memory, workers, statistics};
};

reuse::HashParameters parameters_of(const reuse_hashing& h, const reuse::Blocking& blocking) {
  const int64_t length = blocking.sub_vector_length();
  for (int64_t i = 0; i < h.coordinates_size; ++i) {
    if (h.coordinates[i] < 0 || h.coordinates[i] >= length) {
      throw std::invalid_argument("coordinates hold " + std::to_string(h.coordinates[i]) + ", must be 0 to " +
                                  std::to_string(length - 1));
    }
  }
  return {h.projections, h.thresholds, h.coordinates, h.widths};
}

// The codes of a block's clusters, in the order of their numbers: that of first appearance.
std::vector<int64_t> codes_of_clusters(const int32_t* ids, const int64_t* codes, int64_t vectors, int64_t count) {
  std::vector<int64_t> result;
  for (int64_t v = 0; v < vectors && static_cast<int64_t>(result.size()) < count; ++v) {
    if (ids[v] == static_cast<int64_t>(result.size())) result.push_back(codes[v]);
  }
  return result;
}

reuse_clusters* cluster_with_codes(reuse::Context& context, const reuse::Blocking& blocking,
                                   const reuse::HashAttributes& hashing, const reuse::HashParameters& parameters,
                                   const reuse::ClusterAttributes& attributes, const float* x) {
  reuse::Buffer<int64_t> codes(memory, static_cast<size_t>(blocking.num_blocks() * blocking.vectors));
  reuse::hash(context, blocking, hashing, parameters, x, codes.data());
  reuse::Clusters found = reuse::cluster(context, blocking, attributes, x, codes.data());
  std::vector<std::vector<int64_t>> kept;
  for (int64_t b = 0; b < blocking.num_blocks(); ++b) {
    const int64_t offset = b * blocking.vectors;
    kept.push_back(codes_of_clusters(found.ids.data() + offset, codes.data() + offset, blocking.vectors,
                                     found.blocks[static_cast<size_t>(b)].count));
  }
  return new reuse_clusters{blocking, std::move(found), std::move(kept)};
}

}  // namespace

extern "C" {

reuse_clusters* reuse_cluster(const reuse_convolution* convolution, const reuse_hashing* hashing, const float* x,
                              int64_t threads) {
  return reuse::capi::guarded<reuse_clusters*>(nullptr, [&] {
    const reuse::Blocking blocking = reuse::capi::blocking_of(*convolution);
    const reuse::HashAttributes hash = reuse::capi::hash_attributes_of(*hashing, blocking);
    const reuse::HashParameters parameters = parameters_of(*hashing, blocking);
    const reuse::ClusterAttributes attributes = reuse::capi::cluster_attributes_of(*hashing);
    Call call(threads);
    if (hashing->keep_codes != 0) return cluster_with_codes(call.context, blocking, hash, parameters, attributes, x);
    return new reuse_clusters{
        blocking, reuse::hash_and_cluster(call.context, blocking, hash, parameters, attributes, x), {}};
  });
}

void reuse_clusters_free(reuse_clusters* clusters) { delete clusters; }

const int32_t* reuse_clusters_ids(const reuse_clusters* clusters) { return clusters->found.ids.data(); }

int64_t reuse_clusters_block(reuse_clusters* clusters, int64_t block, float** centroids, int32_t** members) {
  if (block < 0 || block >= static_cast<int64_t>(clusters->found.blocks.size())) return -1;
  reuse::BlockClusters& own = clusters->found.blocks[static_cast<size_t>(block)];
  *centroids = own.centroids.data();
  *members = own.members.data();
  return own.count;
}

const int64_t* reuse_clusters_codes(const reuse_clusters* clusters, int64_t block) {
  if (block < 0 || block >= static_cast<int64_t>(clusters->codes.size())) return nullptr;
  return clusters->codes[static_cast<size_t>(block)].data();
}

int32_t reuse_forward(const reuse_clusters* clusters, const float* weights, const float* bias, int32_t int8, float* y,
                      int64_t threads) {
  return reuse::capi::guarded<int32_t>(-1, [&] {
    Call call(threads);
    const reuse::TableType table = int8 != 0 ? reuse::TableType::kInt8 : reuse::TableType::kFloat;
    const reuse::PackedWeights packed = reuse::pack_for_reuse_conv(memory, clusters->blocking, table, weights);
    reuse::multiply_and_gather(call.context, clusters->blocking, table, {}, packed, clusters->found, bias, y);
    return 0;
  });
}

int32_t reuse_backward(const reuse_clusters* clusters, const float* weights, const float* grad_y, float* grad_weights,
                       float* grad_x, int64_t threads) {
  return reuse::capi::guarded<int32_t>(-1, [&] {
    Call call(threads);
    reuse::backward(call.context, clusters->blocking, clusters->found, weights, grad_y, {grad_weights, grad_x});
    return 0;
  });
}

}  // extern "C"
