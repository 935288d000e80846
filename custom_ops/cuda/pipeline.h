// The operators as sequences of kernels, for any launcher: what is launched depends on shapes only, never on data, so
// that nothing waits for the device and a session can be captured in a CUDA graph.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "centroid_kernels.h"
#include "gather_kernels.h"
#include "hash_kernels.h"
#include "numbering_kernels.h"
#include "pool_kernel.h"
#include "product_kernels.h"
#include "reuse/cuda_operators.h"

namespace reuse::cuda {

// Hands out parts of one piece of memory, or, given none, only finds out how large it must be.
class Arena {
 public:
  explicit Arena(void* memory) : memory_(static_cast<char*>(memory)) {}

  template <typename T>
  T* take(int64_t count) {
    constexpr size_t kAlignment = 256;
    T* part = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + used_);
    used_ += (static_cast<size_t>(count) * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return part;
  }
  size_t used() const { return used_; }
  bool is_measuring() const { return memory_ == nullptr; }

 private:
  char* memory_;
  size_t used_ = 0;
};

inline int32_t to_int32(int64_t value, const char* what) {
  if (value <= std::numeric_limits<int32_t>::max()) return static_cast<int32_t>(value);
  throw std::invalid_argument(std::string(what) + " is " + std::to_string(value) +
                              ", more than the CUDA kernels can count; run smaller batches or inputs");
}

inline Shape make_shape(const Blocking& blocking) {
  const ConvGeometry& g = blocking.geometry;
  const ConvAttributes& a = g.attributes;
  to_int32(g.in_h + a.pad_top + a.pad_bottom, "the input's padded height");
  to_int32(g.in_w + a.pad_left + a.pad_right, "the input's padded width");
  to_int32(g.in_pixels(), "the input's size");
  to_int32(blocking.table_width(), "the width of a table");
  Shape s{};
  s.batch = to_int32(g.batch, "the batch size");
  s.in_channels = to_int32(g.in_channels, "the number of input channels");
  s.in_h = static_cast<int32_t>(g.in_h);
  s.in_w = static_cast<int32_t>(g.in_w);
  s.out_channels = to_int32(g.out_channels, "the number of output channels");
  s.out_h = static_cast<int32_t>(g.out_h);
  s.out_w = static_cast<int32_t>(g.out_w);
  s.kernel_h = static_cast<int32_t>(a.kernel_h);
  s.kernel_w = static_cast<int32_t>(a.kernel_w);
  s.stride_h = static_cast<int32_t>(a.stride_h);
  s.stride_w = static_cast<int32_t>(a.stride_w);
  s.pad_top = static_cast<int32_t>(a.pad_top);
  s.pad_left = static_cast<int32_t>(a.pad_left);
  s.dilation_h = static_cast<int32_t>(a.dilation_h);
  s.dilation_w = static_cast<int32_t>(a.dilation_w);
  s.group = static_cast<int32_t>(a.group);
  s.group_in_channels = static_cast<int32_t>(g.group_in_channels());
  s.group_out_channels = static_cast<int32_t>(g.group_out_channels());
  s.length = static_cast<int32_t>(a.sub_vector_length);
  s.group_width = to_int32(blocking.group_width, "the number of columns");
  s.blocks_per_group = static_cast<int32_t>(blocking.blocks_per_group);
  s.num_blocks = to_int32(blocking.num_blocks(), "the number of blocks");
  s.vectors = to_int32(blocking.vectors, "the number of neuron vectors");
  s.taps = static_cast<int32_t>(blocking.taps_per_block());
  s.rows = to_int32(g.rows(), "the number of output pixels");
  s.patch = a.layout == Layout::kPatch;
  s.input_pixel_major = a.input_order == DataOrder::kNhwc;
  s.output_pixel_major = a.output_order == DataOrder::kNhwc;
  return s;
}

inline Family family_of(const HashFamily* family) {
  if (family == &find_hash_family("sign")) return Family::kSign;
  if (family == &find_hash_family("pstable")) return Family::kPStable;
  if (family == &find_hash_family("learned")) return Family::kLearned;
  return Family::kExact;
}

inline HashOperands make_hash(const HashAttributes& attributes, const HashParameters& parameters) {
  return {family_of(attributes.family), static_cast<int32_t>(attributes.num_hashes),
          parameters.projections,       parameters.thresholds,
          parameters.coordinates,       parameters.widths};
}

inline ActivationOperands make_activation(const GatherAttributes& attributes) {
  const std::vector<float>& params = attributes.activation_params;
  ActivationOperands result{ActivationKind::kNone, params.empty() ? 0.0f : params[0],
                            params.size() < 2 ? 0.0f : params[1]};
  if (attributes.activation == Activation::kRelu) result.kind = ActivationKind::kRelu;
  if (attributes.activation == Activation::kClip) result.kind = ActivationKind::kClip;
  if (attributes.activation == Activation::kLeakyRelu) result.kind = ActivationKind::kLeakyRelu;
  return result;
}

// Bits that a family's codes have at most, or 64.
inline int32_t code_bits(const HashOperands& hash) {
  return hash.family == Family::kSign || hash.family == Family::kLearned ? hash.num_hashes : 64;
}

// How clusters are numbered, and how many can be.
struct Numbering {
  Units units;
  int32_t limit;    // clusters that a unit shares at most
  bool is_limited;  // whether a unit can have more
  bool verify, angular;
};

// `bits` of a code; at most `budget` clusters per block, but one per unit.
inline Numbering plan_numbering(const Shape& shape, const ClusterAttributes& attributes, int32_t bits, int64_t budget) {
  if (attributes.verify) bits = 64;  // several clusters may have one code
  Numbering n{};
  n.units.count = attributes.scope == Scope::kImage ? std::max(shape.batch, 1) : 1;
  n.units.vectors = std::max(1, shape.vectors / n.units.count);
  const int32_t open_bits = log2_up(2 * static_cast<int64_t>(n.units.vectors));
  n.units.direct = bits <= open_bits;
  n.units.slots = to_int32(int64_t{1} << std::min(bits, open_bits), "the number of slots");
  const double asked = std::ceil(static_cast<double>(attributes.capacity) * n.units.vectors);
  const int64_t limit = std::min<int64_t>(static_cast<int64_t>(asked), budget / n.units.count);
  n.limit = static_cast<int32_t>(std::max<int64_t>(1, limit));
  const int64_t codes = bits < 31 ? int64_t{1} << bits : n.units.vectors;
  n.is_limited = n.limit < std::min<int64_t>(codes, n.units.vectors);
  n.verify = attributes.verify;
  n.angular = attributes.metric == Metric::kAngular && !attributes.verify;
  return n;
}

// Device memory of Numbering; see the kernels for shapes.
struct NumberingBuffers {
  uint8_t* finite;
  double* norms;  // null unless metric angular
  int32_t *slots, *leaders, *positions, *chunk_counts;
  int32_t* guarded;   // [B]
  uint32_t* largest;  // [B], after `guarded` without a gap

  static NumberingBuffers take(Arena& arena, const Shape& s, const Numbering& n) {
    const int64_t all = static_cast<int64_t>(s.num_blocks) * s.vectors;
    NumberingBuffers b{};
    b.finite = arena.take<uint8_t>(all);
    if (n.angular) b.norms = arena.take<double>(all);
    b.slots = arena.take<int32_t>(static_cast<int64_t>(s.num_blocks) * n.units.count * n.units.slots);
    b.leaders = arena.take<int32_t>(all);
    b.positions = arena.take<int32_t>(all);
    b.chunk_counts = arena.take<int32_t>(static_cast<int64_t>(s.num_blocks) * divide_up(s.vectors, kScanChunk));
    b.guarded = arena.take<int32_t>(2 * static_cast<int64_t>(s.num_blocks));
    b.largest = arena.is_measuring() ? nullptr : reinterpret_cast<uint32_t*>(b.guarded + s.num_blocks);
    return b;
  }
};

template <typename Launcher, typename T>
void fill(Launcher& launcher, T* target, int64_t count, T value) {
  const FillKernel<T> kernel{target, count, value};
  launcher.launch(kernel, kernel.blocks());
}

// Scans the flags of all vectors: their numbers per block go to `totals`, what is before each vector to `positions`.
template <typename Launcher, typename Flags>
void scan(Launcher& launcher, const Flags& flags, const Shape& shape, const NumberingBuffers& buffers,
          int32_t* totals) {
  const CountKernel<Flags> count{flags, shape.num_blocks, buffers.chunk_counts};
  launcher.launch(count, count.blocks());
  const ChunkScanKernel chunks{shape.num_blocks, divide_up(shape.vectors, kScanChunk), buffers.chunk_counts, totals};
  launcher.launch(chunks, chunks.blocks());
  const PositionKernel<Flags> positions{flags, shape.num_blocks, buffers.chunk_counts, buffers.positions};
  launcher.launch(positions, positions.blocks());
}

// Numbers clusters from codes: writes `ids` and `counts`; guarded vectors get -1 unless they get numbers, too.
template <typename T, typename Launcher>
void number_clusters(Launcher& launcher, const Shape& shape, const Numbering& n, const NumberingBuffers& buffers,
                     const T* x, const int64_t* codes, bool number_guarded, int32_t* ids, int32_t* counts) {
  fill(launcher, buffers.slots, static_cast<int64_t>(shape.num_blocks) * n.units.count * n.units.slots, int32_t{-1});
  const InsertKernel<T> insert{shape, x, n.units, n.verify, codes, buffers.finite, buffers.slots, buffers.leaders};
  launcher.launch(insert, insert.blocks());
  scan(launcher, LeaderFlags{n.units, shape.vectors, buffers.slots, buffers.leaders}, shape, buffers, counts);
  // Unless some clusters are not shared, or vectors that share nothing get numbers, a leader's position is its number.
  if (n.is_limited || number_guarded) {
    scan(launcher, ClusterFlags{n.units, shape.vectors, n.limit, number_guarded, buffers.positions, buffers.leaders},
         shape, buffers, counts);
  }
  const NumberKernel number{shape.num_blocks,  shape.vectors, number_guarded, buffers.leaders,
                            buffers.positions, ids,           buffers.guarded};
  launcher.launch(number, number.blocks());
}

// Device memory of the members' sums.
inline MemberSums take_sums(Arena& arena, const Shape& s, const Numbering& n, int32_t rows) {
  const int64_t all = static_cast<int64_t>(s.num_blocks) * rows;
  MemberSums sums{rows, nullptr, nullptr, nullptr};
  if (n.verify) return sums;
  sums.elements = arena.take<int64_t>(all * s.length);
  sums.members = arena.take<int32_t>(all);
  if (n.angular) sums.norms = arena.take<int64_t>(all);
  return sums;
}

// Blocks of threads of kernels that share out work whose amount the host does not know.
template <typename Launcher>
int64_t shared_blocks(const Launcher& launcher) {
  constexpr int64_t kPerMultiprocessor = 4;
  return launcher.multiprocessors() * kPerMultiprocessor;
}

// Writes the centroids of numbered clusters.
template <typename T, typename Centroid, typename Launcher>
void write_centroids(Launcher& launcher, const Shape& shape, const Numbering& n, const NumberingBuffers& buffers,
                     const T* x, const MemberSums& sums, const int32_t* ids, const int32_t* counts,
                     bool guarded_have_rows, Centroid* centroids) {
  const SumScale scale{shape.vectors, shape.length, buffers.largest};
  if (!n.verify) {
    launcher.launch(ClearSumsKernel{shape.num_blocks, shape.length, counts, sums}, shared_blocks(launcher));
    const SumMembersKernel<T> add{shape, x, scale, ids, buffers.leaders, buffers.norms, sums};
    launcher.launch(add, add.blocks());
    if (n.angular) {
      const SumNormsKernel norms{shape.num_blocks, shape.vectors, scale, ids, buffers.leaders, buffers.norms, sums};
      launcher.launch(norms, norms.blocks());
    }
    launcher.launch(DivideKernel<Centroid>{shape.num_blocks, shape.length, counts, scale, sums, centroids},
                    shared_blocks(launcher));
    if (!guarded_have_rows) return;
  }
  const CopyMembersKernel<T, Centroid> copy{shape, x, sums.rows, n.verify, ids, buffers.leaders, centroids};
  launcher.launch(copy, copy.blocks());
}

inline Panels make_panels(const Shape& shape, int32_t tile) {
  return {tile, divide_up(shape.group_out_channels, tile), shape.num_blocks, shape.length, shape.taps};
}

// Output channels of a tile: whole loads of 16 bytes of any entry.
inline int32_t tile_channels_of(const Shape& shape) {
  return std::min(kMostTileChannels, divide_up(shape.group_out_channels, 8) * 8);
}

// Bytes of a block's clusters in memory, of everything that a cluster of each block needs.
inline int64_t bytes_per_row(const Shape& shape, const Panels& panels) {
  const int64_t sums = shape.length * int64_t{sizeof(int64_t)} + int64_t{sizeof(int32_t) + sizeof(int64_t)};
  const int64_t own = sums + shape.length * int64_t{sizeof(float)} + panels.width() * int64_t{sizeof(float)};
  return own * shape.num_blocks;
}

// Everything of a ReuseConv that does not change from run to run of the same shape.
struct FusedPlan {
  Shape shape;
  Numbering numbering;
  Panels panels;
  int32_t rows;            // of sums, centroids and tables, per block
  int32_t tiles_together;  // whose tables exist at once

  static FusedPlan make(const Blocking& blocking, const HashOperands& hash, const ClusterAttributes& cluster) {
    FusedPlan p{};
    p.shape = make_shape(blocking);
    p.panels = make_panels(p.shape, tile_channels_of(p.shape));
    const int32_t bits = code_bits(hash);
    const int64_t budget = table_memory() / bytes_per_row(p.shape, p.panels);
    p.numbering = plan_numbering(p.shape, cluster, bits, budget);
    int64_t per_unit = p.numbering.limit;
    if (bits < 31 && !cluster.verify) per_unit = std::min(per_unit, int64_t{1} << bits);
    p.rows = to_int32(per_unit * p.numbering.units.count, "the number of clusters");
    // Few large launches keep a GPU busy, but tables that are written and read together should fit the L2 cache.
    const int64_t together = std::min(int64_t{24} << 20, table_memory() / 16);
    const int64_t bytes = int64_t{sizeof(float)} * p.shape.num_blocks * p.rows * p.panels.width();
    p.tiles_together = static_cast<int32_t>(std::clamp<int64_t>(together / bytes, 1, p.panels.tiles));
    return p;
  }
};

// Weights as ReuseConv packs them: panels, and the bounds of their columns.
template <typename Packed>
struct PackedWeightsView {
  Packed* panels;
  uint32_t* columns;

  static PackedWeightsView take(Arena& arena, const Panels& sizes) {
    Packed* panels = arena.take<Packed>(sizes.size());
    return {panels, arena.take<uint32_t>(sizes.num_blocks)};
  }
};

template <typename Weight, typename Packed, typename Launcher>
void pack_weights(Launcher& launcher, const Shape& shape, const Panels& sizes, const Weight* weights,
                  const PackedWeightsView<Packed>& packed) {
  const PackKernel<Weight, Packed> pack{shape, sizes, weights, packed.panels};
  launcher.launch(pack, pack.blocks());
  fill(launcher, packed.columns, sizes.num_blocks, uint32_t{0});
  const ColumnBoundKernel<Packed> bound{sizes, packed.panels, packed.columns};
  launcher.launch(bound, bound.blocks());
}

// Operands of a ReuseConv in device memory.
template <typename T>
struct FusedOperands {
  const T *x, *bias;
  HashOperands hash;
  ActivationOperands activation;
  T* y;
  int64_t* statistics;  // [3], see StatisticsKernel; or null
};

// Product and table of a mode: strict float32, TF32 with float16 tables, or float16.
template <typename T, typename Product, typename Entry>
class Fused {
 public:
  using Packed = T;

  explicit Fused(const FusedPlan& plan) : plan_(plan) {}

  size_t scratch_bytes() const {
    Arena arena(nullptr);
    take(arena);
    return arena.used();
  }

  template <typename Launcher>
  void run(Launcher& launcher, const FusedOperands<T>& operands, const PackedWeightsView<Packed>& weights,
           void* scratch) const {
    Arena arena(scratch);
    const Buffers b = take(arena);
    const Shape& s = plan_.shape;
    fill(launcher, b.numbering.guarded, 2 * static_cast<int64_t>(s.num_blocks), int32_t{0});
    if (s.vectors > 0) {
      launcher.begin_stage(Stage::kHash);
      const HashKernel<T> hash{
          s, operands.x, operands.hash, b.codes, b.numbering.finite, b.numbering.largest, b.numbering.norms};
      launcher.launch(hash, hash.blocks(s));
      number_clusters(launcher, s, plan_.numbering, b.numbering, operands.x, b.codes, false, b.ids, b.counts);
      launcher.begin_stage(Stage::kCluster);
      write_centroids(launcher, s, plan_.numbering, b.numbering, operands.x, b.sums, b.ids, b.counts, false,
                      b.centroids);
      if (operands.statistics != nullptr) {
        const StatisticsKernel statistics{s.num_blocks, false, b.counts, b.numbering.guarded, operands.statistics};
        launcher.launch(statistics, statistics.blocks());
      }
    } else {
      fill(launcher, b.counts, s.num_blocks, int32_t{0});
    }
    for (int32_t tile = 0; tile < plan_.panels.tiles; tile += plan_.tiles_together) {
      run_tiles(launcher, operands, weights, b, tile);
    }
    launcher.end_stages();
  }

 private:
  struct Buffers {
    NumberingBuffers numbering;
    int64_t* codes;
    int32_t *ids, *counts;
    MemberSums sums;
    T* centroids;
    Entry* table;
  };

  Buffers take(Arena& arena) const {
    const Shape& s = plan_.shape;
    const int64_t all = static_cast<int64_t>(s.num_blocks) * s.vectors;
    const int64_t all_rows = static_cast<int64_t>(s.num_blocks) * plan_.rows;
    Buffers b{};
    b.numbering = NumberingBuffers::take(arena, s, plan_.numbering);
    b.codes = arena.take<int64_t>(all);
    b.ids = arena.take<int32_t>(all);
    b.counts = arena.take<int32_t>(s.num_blocks);
    b.sums = take_sums(arena, s, plan_.numbering, plan_.rows);
    b.centroids = arena.take<T>(all_rows * s.length);
    b.table = arena.take<Entry>(all_rows * plan_.panels.width() * plan_.tiles_together);
    return b;
  }

  template <typename Launcher>
  void run_tiles(Launcher& launcher, const FusedOperands<T>& operands, const PackedWeightsView<Packed>& weights,
                 const Buffers& b, int32_t first) const {
    const Shape& s = plan_.shape;
    const Panels& panels = plan_.panels;
    const Packed* panel = weights.panels + panels.offset(first, 0);
    const int32_t count = std::min(plan_.tiles_together, panels.tiles - first);
    EntryScale scale{nullptr, nullptr, 0};
    if (sizeof(Entry) == 2) {
      scale = {b.numbering.largest, weights.columns, plan_.numbering.angular ? log2_up(s.length) + 1 : 1};
    }
    launcher.begin_stage(Stage::kGemm);
    const ProductKernel<Product, T, Packed, Entry> product{count,    s.num_blocks, plan_.rows, s.length, panels.width(),
                                                           b.counts, b.centroids,  panel,      scale,    b.table};
    launcher.launch(product, std::min(product.pieces(), shared_blocks(launcher)));
    launcher.begin_stage(Stage::kGather);
    const int64_t tile_stride = static_cast<int64_t>(s.num_blocks) * plan_.rows * panels.width();
    const GatherKernel<T, Packed, Entry> gather{s,
                                                {b.table, plan_.rows, panels.width(), panels.tile, tile_stride, true},
                                                scale,
                                                {operands.x, panel, panels},
                                                b.ids,
                                                operands.bias,
                                                operands.activation,
                                                {first, count, panels.tile},
                                                operands.y};
    launcher.launch(gather, gather.blocks());
  }

  FusedPlan plan_;
};

template <typename T>
using StrictFused = Fused<T, StrictProduct, float>;
template <typename T>
using TensorFused = Fused<T, TensorProduct<T>, Half>;

// Operator Hash: codes [B, V].
template <typename T, typename Launcher>
void run_hash(Launcher& launcher, const Shape& shape, const HashOperands& hash, const T* x, int64_t* codes) {
  if (shape.vectors == 0) return;
  const HashKernel<T> kernel{shape, x, hash, codes, nullptr, nullptr, nullptr};
  launcher.launch(kernel, kernel.blocks(shape));
}

// Operator Cluster: every guarded vector has a row, so there are as many rows as vectors.
template <typename T>
class StagedCluster {
 public:
  StagedCluster(const Blocking& blocking, const ClusterAttributes& attributes)
      : shape_(make_shape(blocking)),
        numbering_(plan_numbering(shape_, attributes, 64, std::numeric_limits<int32_t>::max())) {}

  int32_t rows() const { return std::max(1, shape_.vectors); }

  size_t scratch_bytes() const {
    Arena arena(nullptr);
    take(arena);
    return arena.used();
  }

  template <typename Launcher>
  void run(Launcher& launcher, const T* x, const int64_t* codes, int32_t* ids, T* centroids, int32_t* counts,
           int64_t* statistics, void* scratch) const {
    Arena arena(scratch);
    const auto [buffers, sums] = take(arena);
    fill(launcher, buffers.guarded, 2 * static_cast<int64_t>(shape_.num_blocks), int32_t{0});
    fill(launcher, counts, shape_.num_blocks, int32_t{0});
    fill(launcher, centroids, static_cast<int64_t>(shape_.num_blocks) * rows() * shape_.length, T{});
    if (shape_.vectors == 0) return;
    const HashKernel<T> inspect{shape_, x, {}, nullptr, buffers.finite, buffers.largest, buffers.norms};
    launcher.launch(inspect, inspect.blocks(shape_));
    number_clusters(launcher, shape_, numbering_, buffers, x, codes, true, ids, counts);
    write_centroids(launcher, shape_, numbering_, buffers, x, sums, ids, counts, true, centroids);
    if (statistics == nullptr) return;
    const StatisticsKernel kernel{shape_.num_blocks, true, counts, buffers.guarded, statistics};
    launcher.launch(kernel, kernel.blocks());
  }

 private:
  struct Buffers {
    NumberingBuffers numbering;
    MemberSums sums;
  };

  Buffers take(Arena& arena) const {
    const NumberingBuffers numbering = NumberingBuffers::take(arena, shape_, numbering_);
    return {numbering, take_sums(arena, shape_, numbering_, rows())};
  }

  Shape shape_;
  Numbering numbering_;
};

// Operator CentroidGemm, in one tile of all of a group's channels.
template <typename T, typename Product>
class StagedProduct {
 public:
  StagedProduct(const Blocking& blocking, int64_t capacity)
      : shape_(make_shape(blocking)),
        panels_(make_panels(shape_, shape_.group_out_channels)),
        rows_(to_int32(capacity, "the number of centroids")) {}

  size_t scratch_bytes() const {
    Arena arena(nullptr);
    PackedWeightsView<T>::take(arena, panels_);
    return arena.used();
  }

  template <typename Launcher>
  void run(Launcher& launcher, const T* centroids, const int32_t* counts, const T* weights, T* table,
           void* scratch) const {
    Arena arena(scratch);
    const auto packed = PackedWeightsView<T>::take(arena, panels_);
    pack_weights(launcher, shape_, panels_, weights, packed);
    fill(launcher, table, static_cast<int64_t>(shape_.num_blocks) * rows_ * panels_.width(), T{});
    const ProductKernel<Product, T, T, T> product{
        1,      shape_.num_blocks, rows_,         shape_.length,         panels_.width(),
        counts, centroids,         packed.panels, {nullptr, nullptr, 0}, table};
    launcher.launch(product, std::min(product.pieces(), shared_blocks(launcher)));
  }

 private:
  Shape shape_;
  Panels panels_;
  int32_t rows_;
};

// Operator Gather.
template <typename T, typename Launcher>
void run_gather(Launcher& launcher, const Shape& shape, const ActivationOperands& activation, const T* table,
                int64_t capacity, const int32_t* ids, const T* bias, T* y) {
  const int32_t rows = to_int32(capacity, "the number of table rows");
  const int32_t width = static_cast<int32_t>(shape.table_width()), channels = shape.group_out_channels;
  const bool aligned = channels % kEntriesAtOnce<T> == 0;
  const ChannelTiles tiles{0, divide_up(channels, kMostTileChannels), kMostTileChannels};
  const GatherKernel<T, T, T> gather{shape,
                                     {table, rows, width, channels, kMostTileChannels, aligned},
                                     {nullptr, nullptr, 0},
                                     {nullptr, nullptr, {}},
                                     ids,
                                     bias,
                                     activation,
                                     tiles,
                                     y};
  launcher.launch(gather, gather.blocks());
}

// Operator Pool.
template <typename T, typename Launcher>
void run_pool(Launcher& launcher, const PoolAttributes& a, int64_t batch, const PoolAxis& height, const PoolAxis& width,
              int64_t channels, const T* x, T* y) {
  PoolShape s{};
  s.in_h = to_int32(height.in, "the input's height");
  s.in_w = to_int32(width.in, "the input's width");
  s.out_h = to_int32(height.out, "the output's height");
  s.out_w = to_int32(width.out, "the output's width");
  s.channels = to_int32(channels, "the number of channels");
  s.kernel_h = static_cast<int32_t>(a.kernel_h);
  s.kernel_w = static_cast<int32_t>(a.kernel_w);
  s.stride_h = static_cast<int32_t>(a.stride_h);
  s.stride_w = static_cast<int32_t>(a.stride_w);
  s.pad_top = static_cast<int32_t>(height.begin_pad);
  s.pad_left = static_cast<int32_t>(width.begin_pad);
  s.average = a.mode == PoolMode::kAverage;
  s.count_include_pad = a.count_include_pad;
  const PoolKernel<T> pool{s, batch * height.out * width.out * channels, x, y};
  launcher.launch(pool, pool.blocks());
}

}  // namespace reuse::cuda
