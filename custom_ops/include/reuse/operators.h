// The operators of docs/operators.md on CPU memory, free of ONNX Runtime and Python.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "reuse/activation.h"
#include "reuse/geometry.h"
#include "reuse/hash_family.h"
#include "reuse/runtime.h"
#include "reuse/state.h"

namespace reuse {

enum class Scope { kImage, kBatch, kSession, kStatic };
enum class Metric { kEuclidean, kAngular };
enum class TableType { kFloat, kInt8 };

Scope parse_scope(const std::string& name);
Metric parse_metric(const std::string& name);
TableType parse_table_type(const std::string& name);

struct HashAttributes {
  const HashFamily* family = nullptr;
  int64_t num_hashes = 1;

  // How many codes there are: clusters per block of scope static. Throws std::invalid_argument where codes are no
  // small numbers.
  int64_t given_clusters() const;
};

// Prepares the parameters of all blocks. Throws std::invalid_argument if they do not fit.
std::unique_ptr<Encoder> make_encoder(Allocator& allocator, const HashAttributes& attributes, int64_t num_blocks,
                                      int64_t length, const HashParameters& parameters,
                                      const HashParameterSizes& sizes);

struct ClusterAttributes {
  Scope scope = Scope::kBatch;
  Metric metric = Metric::kEuclidean;
  float capacity = 1.0f;
  bool verify = false;
  int64_t memory = int64_t{1} << 26;  // bytes that the clusters kept by scope session may take

  void check() const;
};

struct GatherAttributes {
  Activation activation = Activation::kNone;
  std::vector<float> activation_params;

  // The activation that multiplies what is below 0 by `alpha`, and then clips to min..max. Throws std::invalid_argument
  // where it would do both.
  static GatherAttributes of(float alpha, float min, float max);
};

// Clusters of one block: `centroids` is [count, L], `members` [count].
struct BlockClusters {
  explicit BlockClusters(Allocator& allocator) : centroids(allocator), members(allocator) {}
  Buffer<float> centroids;
  Buffer<int32_t> members;
  int64_t count = 0;
  int64_t guarded = 0;
};

// Clusters of all blocks, or of the first: `ids` is [B, V].
struct Clusters {
  // Of no block yet.
  Clusters(Allocator& allocator, const Blocking& blocking);
  Buffer<int32_t> ids;
  std::vector<BlockClusters> blocks;
};

// Weights [M, Ic/group, kh, kw] in the order that multiplying centroids needs. Output channels are cut into tiles; a
// block's panel for a tile has the columns [taps_per_block, tile's channels], padded with zeros to `panel_stride` and
// stored as strips of 16 columns, each [L, 16]. The blocking may be of an input of any size.
class PackedWeights {
 public:
  // For multiply_and_gather with tables of that type.
  PackedWeights(Allocator& allocator, const Blocking& blocking, TableType table, const float* weights);
  // In one tile of all channels without padding, for whole tables of float32.
  PackedWeights(Allocator& allocator, const Blocking& blocking, const float* weights);

  TableType table() const { return table_; }
  int64_t num_tiles() const { return num_tiles_; }
  int64_t tile_start(int64_t tile) const { return tile * tile_channels_; }       // first channel within the group
  int64_t tile_size(int64_t tile) const;                                         // channels
  int64_t padded_size(int64_t tile) const;                                       // channels with padding
  int64_t panel_width(int64_t tile) const { return taps_ * padded_size(tile); }  // elements of a product row
  int64_t panel_stride(int64_t tile) const;
  const float* panel(int64_t block, int64_t tile) const { return data_.data() + offsets_[block * num_tiles_ + tile]; }
  // Largest Euclidean norm, over the taps, of the block's weights for each of the tile's channels; for int8 tables.
  const double* norms(int64_t block, int64_t tile) const {
    return norms_.data() + block * num_tiles_ * tile_channels_ + tile_start(tile);
  }

 private:
  // Tiles of at most `tile_channels`, padded to a multiple of `padding`.
  PackedWeights(Allocator& allocator, const Blocking& blocking, TableType table, const float* weights,
                int64_t tile_channels, int64_t padding);
  void find_norms(const Blocking& blocking);

  TableType table_;
  int64_t channels_, tile_channels_, padding_, num_tiles_, taps_;
  std::vector<int64_t> offsets_;
  std::vector<double> norms_;
  Buffer<float> data_;
};

// Writes what every run has: blocks, rows, and vectors.
void count_vectors(RunStatistics& statistics, const Blocking& blocking);

// Hash: writes codes [B, V].
void hash(Workspace& workspace, const Blocking& blocking, const Encoder& encoder, const float* x, int64_t* codes);

// Cluster: returns ids and centroids.
Clusters cluster(Workspace& workspace, const Blocking& blocking, const ClusterAttributes& attributes, const float* x,
                 const int64_t* codes);

// The same of scope session. What is new joins the state when `use(clusters)` has returned.
void cluster(Workspace& workspace, const Blocking& blocking, const ClusterAttributes& attributes, ReuseState& state,
             const float* x, const int64_t* codes, const std::function<void(const Clusters&)>& use);

// Cluster of scope static: `centroids` are [B, count, L]. Throws std::out_of_range for a code of no centroid.
Clusters given_clusters(Workspace& workspace, const Blocking& blocking, const float* centroids, int64_t count,
                        const float* x, const int64_t* codes);

// Hash and Cluster in one: reads each vector once for both, codes need not be kept.
Clusters hash_and_cluster(Workspace& workspace, const Blocking& blocking, const Encoder& encoder,
                          const ClusterAttributes& attributes, const float* x);

// The same for some blocks, the next after those whose clusters there are; where that can be done.
bool can_cluster_some_blocks(const Blocking& blocking, const ClusterAttributes& attributes);
void hash_and_cluster(Workspace& workspace, const Blocking& blocking, const Encoder& encoder,
                      const ClusterAttributes& attributes, const float* x, BlockRange blocks, Clusters& clusters);

// CentroidGemm: writes table [B, capacity, T]; `counts` is [B], `weights` [M, Ic/group, kh, kw].
void centroid_gemm(Workspace& workspace, const Blocking& blocking, const float* weights, const float* centroids,
                   const int32_t* counts, int64_t capacity, float* table);

// Gather: writes y [N, M, Oh, Ow]. Throws std::out_of_range if an id is outside the table.
void gather(Workspace& workspace, const Blocking& blocking, const GatherAttributes& attributes, const float* table,
            int64_t capacity, const int32_t* ids, const float* bias, float* y);

// The part of ReuseConv (reuse/plan.h) that follows clustering, a tile of output channels at a time.
void multiply_and_gather(Workspace& workspace, const Blocking& blocking, const GatherAttributes& attributes,
                         const PackedWeights& weights, const Clusters& clusters, const float* bias, float* y);

}  // namespace reuse
