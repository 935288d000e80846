#include "reuse/training.h"

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#include "arguments.h"
#include "errors.h"
#include "reuse/workers.h"

struct reuse_plan {
  reuse::ConvAttributes conv;
  int64_t in_channels, out_channels;
  reuse::ClusterAttributes cluster;
  bool keep_codes;
  std::unique_ptr<const reuse::Encoder> encoder;
  std::vector<float> given;  // the centroids of scope static
};

namespace {

reuse::AlignedAllocator memory;

// What one call works with.
struct Call {
  explicit Call(int64_t threads) : parallel(threads) {}
  reuse::SharedWorkers parallel;
  reuse::Workspace workspace{memory, parallel};
};

// The codes of a block's clusters, in the order of their numbers: that of first appearance.
std::vector<int64_t> codes_of_clusters(const int32_t* ids, const int64_t* codes, int64_t vectors, int64_t count) {
  std::vector<int64_t> result;
  for (int64_t v = 0; v < vectors && static_cast<int64_t>(result.size()) < count; ++v) {
    if (ids[v] == static_cast<int64_t>(result.size())) result.push_back(codes[v]);
  }
  return result;
}

}  // namespace

// The clusters and the call whose memory they are in.
struct reuse_clusters {
  reuse_clusters(const reuse_plan& plan, const reuse::Blocking& of, const float* x, int64_t threads)
      : call(threads), blocking(of), found(plan.keep_codes ? find_with_codes(plan, x) : find(plan, x)) {}

  Call call;
  reuse::Blocking blocking;
  std::vector<std::vector<int64_t>> codes;  // by block, if they were to be kept
  reuse::Clusters found;

 private:
  reuse::Clusters find(const reuse_plan& plan, const float* x) {
    if (plan.cluster.scope == reuse::Scope::kStatic) return find_given(plan, x);
    return reuse::hash_and_cluster(call.workspace, blocking, *plan.encoder, plan.cluster, x);
  }

  reuse::Clusters find_given(const reuse_plan& plan, const float* x) {
    const int64_t vectors = blocking.vectors, rows = blocking.num_blocks() * blocking.sub_vector_length();
    reuse::Buffer<int64_t> all(call.workspace, static_cast<size_t>(blocking.num_blocks() * vectors));
    reuse::hash(call.workspace, blocking, *plan.encoder, x, all.data());
    const int64_t count = static_cast<int64_t>(plan.given.size()) / rows;
    reuse::Clusters result = given_clusters(call.workspace, blocking, plan.given.data(), count, x, all.data());
    for (int64_t b = 0; b < blocking.num_blocks(); ++b) {
      reuse::BlockClusters& own = result.blocks[static_cast<size_t>(b)];
      own.members.resize(static_cast<size_t>(own.count));
      std::fill_n(own.members.data(), own.count, 0);
      const int32_t* ids = result.ids.data() + b * vectors;
      for (int64_t v = 0; v < vectors; ++v) ++own.members[static_cast<size_t>(ids[v])];
    }
    return result;
  }

  reuse::Clusters find_with_codes(const reuse_plan& plan, const float* x) {
    reuse::Buffer<int64_t> all(call.workspace, static_cast<size_t>(blocking.num_blocks() * blocking.vectors));
    reuse::hash(call.workspace, blocking, *plan.encoder, x, all.data());
    reuse::Clusters result = reuse::cluster(call.workspace, blocking, plan.cluster, x, all.data());
    for (int64_t b = 0; b < blocking.num_blocks(); ++b) {
      const int64_t offset = b * blocking.vectors;
      codes.push_back(codes_of_clusters(result.ids.data() + offset, all.data() + offset, blocking.vectors,
                                        result.blocks[static_cast<size_t>(b)].count));
    }
    return result;
  }
};

extern "C" {

reuse_plan* reuse_plan_create(const reuse_convolution* convolution, const reuse_hashing* hashing) {
  return reuse::capi::guarded<reuse_plan*>(nullptr, [&] {
    const reuse::ConvAttributes conv = reuse::capi::conv_attributes_of(*convolution);
    const int64_t in_channels = convolution->in_channels, out_channels = convolution->out_channels;
    const reuse::Blocking blocking = reuse::Blocking::of_any_size(conv, in_channels, out_channels);
    const reuse::HashAttributes hash = reuse::capi::hash_attributes_of(*hashing, blocking);
    const float* centroids = reuse::capi::centroids_of(*hashing, blocking);
    if (centroids != nullptr && hashing->keep_codes != 0) {
      throw std::invalid_argument("codes of scope static are the numbers of clusters: do not keep them");
    }
    const int64_t num_centroids = centroids == nullptr ? 0 : hashing->centroids_size;
    const reuse::HashParameters parameters{hashing->projections, hashing->thresholds, hashing->coordinates};
    return new reuse_plan{conv,
                          in_channels,
                          out_channels,
                          reuse::capi::cluster_attributes_of(*hashing),
                          hashing->keep_codes != 0,
                          reuse::make_encoder(memory, hash, blocking.num_blocks(), blocking.sub_vector_length(),
                                              parameters, reuse::capi::sizes_of(*hashing)),
                          {centroids, centroids + num_centroids}};
  });
}

void reuse_plan_destroy(reuse_plan* plan) { delete plan; }

reuse_clusters* reuse_cluster(const reuse_plan* plan, int64_t batch, int64_t height, int64_t width, const float* x,
                              int64_t threads) {
  return reuse::capi::guarded<reuse_clusters*>(nullptr, [&] {
    const reuse::Blocking blocking = reuse::Blocking::make(
        reuse::ConvGeometry::make(plan->conv, batch, plan->in_channels, height, width, plan->out_channels));
    return new reuse_clusters(*plan, blocking, x, threads);
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
    const reuse::PackedWeights packed(call.workspace, clusters->blocking, table, weights);
    reuse::multiply_and_gather(call.workspace, clusters->blocking, {}, packed, clusters->found, bias, y);
    return 0;
  });
}

int32_t reuse_backward(const reuse_clusters* clusters, const float* weights, const float* grad_y, float* grad_weights,
                       float* grad_x, int64_t threads) {
  return reuse::capi::guarded<int32_t>(-1, [&] {
    Call call(threads);
    reuse::backward(call.workspace, clusters->blocking, clusters->found, weights, grad_y, {grad_weights, grad_x});
    return 0;
  });
}

}  // extern "C"
