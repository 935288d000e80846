// Clustering as a sequence of kernels, for any launcher.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "centroid_kernels.h"
#include "fill_kernel.h"
#include "means_kernel.h"
#include "numbering_kernels.h"
#include "reuse/slot_key.h"
#include "setup.h"
#include "slot_kernels.h"
#include "small_numbering_kernel.h"

namespace reuse::cuda {

// Which problems are clustered by which kernels; tests set other limits than the usual ones.
struct PathLimits {
  int32_t small_vectors = kSmallVectors;  // of a block, that one group numbers
  int32_t vectors_per_slot = 4;  // from so many on, sums are kept by slot: clearing them then costs less than X
};

// How clusters are numbered, and how many can be.
struct Numbering {
  Units units;
  int32_t limit;    // clusters that a unit shares at most
  bool is_limited;  // whether a unit can have more
  bool verify, angular;
  bool is_small;  // whether one launch numbers, and one writes centroids
};

// `bits` of a code; at most `budget` clusters per block, but one per unit.
inline Numbering plan_numbering(const Shape& shape, const ClusterAttributes& attributes, int32_t bits, int64_t budget,
                                const PathLimits& limits) {
  if (attributes.scope != Scope::kImage && attributes.scope != Scope::kBatch) {
    throw std::invalid_argument("vectors are clustered on CUDA in the scopes image and batch only; choose one of them");
  }
  Numbering n{};
  n.units.count = attributes.scope == Scope::kImage ? std::max(shape.batch, 1) : 1;
  n.units.vectors = std::max(1, shape.vectors / n.units.count);
  const int32_t open_bits = log2_up(2 * static_cast<int64_t>(n.units.vectors));
  n.units.direct = bits <= open_bits;
  n.units.key = slot_key();
  n.units.slots = to_int32(int64_t{1} << std::min(bits, open_bits), "the number of slots");
  const double asked = std::ceil(static_cast<double>(attributes.capacity) * n.units.vectors);
  const int64_t limit = std::min<int64_t>(static_cast<int64_t>(asked), budget / n.units.count);
  n.limit = static_cast<int32_t>(std::max<int64_t>(1, limit));
  const int64_t codes = bits < 31 ? int64_t{1} << bits : n.units.vectors;
  n.is_limited = n.limit < std::min<int64_t>(codes, n.units.vectors);
  n.verify = attributes.verify;
  n.angular = attributes.metric == Metric::kAngular && !attributes.verify;
  n.is_small = shape.vectors <= limits.small_vectors && n.units.all_slots() <= kSmallSlots;
  return n;
}

// Whether codes are slots that sums can be kept by: few, all of them with a row, and vectors that fit a tile.
inline bool sums_by_slot(const Shape& shape, const Numbering& n, const PathLimits& limits) {
  const bool are_few = static_cast<int64_t>(n.units.slots) * limits.vectors_per_slot <= n.units.vectors;
  const bool are_plain = n.units.direct && !n.is_limited && !n.verify && !n.angular;
  return !n.is_small && are_plain && are_few && Tiling::of(shape.length).in_tile;
}

// Device memory of Numbering; see the kernels for shapes.
struct NumberingBuffers {
  uint8_t* finite;
  double* norms;  // null unless metric angular
  int32_t *slots, *leaders, *positions, *chunk_counts;
  uint32_t *of_tiles, *largest;

  static NumberingBuffers take(Arena& arena, const Shape& s, const Numbering& n) {
    const int64_t all = static_cast<int64_t>(s.num_blocks) * s.vectors;
    NumberingBuffers b{};
    b.finite = arena.take<uint8_t>(all);
    if (n.angular) b.norms = arena.take<double>(all);
    if (!n.is_small) {
      b.slots = arena.take<int32_t>(s.num_blocks * n.units.all_slots());
      b.chunk_counts = arena.take<int32_t>(static_cast<int64_t>(s.num_blocks) * divide_up(s.vectors, kScanChunk));
    }
    b.leaders = arena.take<int32_t>(all);
    b.positions = arena.take<int32_t>(all);
    b.of_tiles = arena.take<uint32_t>(static_cast<int64_t>(s.num_blocks) * Tiling::of(s.length).tiles(s.vectors));
    b.largest = arena.take<uint32_t>(s.num_blocks);
    return b;
  }

  TileMaxima maxima(const Shape& s) const { return {of_tiles, Tiling::of(s.length).tiles(s.vectors), largest}; }
};

// Hashes, unless `codes` is null, and finds what numbering and centroids need to know of X.
template <typename T, typename Launcher>
void inspect(Launcher& launcher, const Shape& shape, const HashOperands& hash, const NumberingBuffers& buffers,
             const T* x, int64_t* codes) {
  const HashKernel<T> kernel{shape,        Tiling::of(shape.length), x, hash, codes, buffers.finite, buffers.of_tiles,
                             buffers.norms};
  launcher.launch(kernel, kernel.blocks());
}

// Scans the flags of all vectors: their numbers per block go to `totals`, what is before each vector to `positions`.
template <typename Launcher, typename Flags>
void scan(Launcher& launcher, const Flags& flags, const Shape& shape, const NumberingBuffers& buffers,
          int32_t* totals) {
  const CountKernel<Flags> count{flags, shape.num_blocks, shape.vectors, buffers.chunk_counts};
  launcher.launch(count, count.blocks());
  const ChunkScanKernel chunks{shape.num_blocks, divide_up(shape.vectors, kScanChunk), buffers.chunk_counts, totals,
                               buffers.maxima(shape)};
  launcher.launch(chunks, chunks.blocks());
  const PositionKernel<Flags> positions{flags, shape.num_blocks, shape.vectors, buffers.chunk_counts,
                                        buffers.positions};
  launcher.launch(positions, positions.blocks());
}

// What clusters of coded vectors are numbered into.
struct NumberedClusters {
  int32_t *ids, *counts;
  bool number_guarded;  // else guarded vectors get id -1
  RunCounts run_counts;
};

// Numbers clusters from codes, and clears the rows of `sums` that they get; `sums` may be none.
template <typename T, typename Launcher>
void number_clusters(Launcher& launcher, const Shape& shape, const Numbering& n, const NumberingBuffers& buffers,
                     const T* x, const int64_t* codes, const NumberedClusters& out, const MemberSums& sums) {
  const CodedVectors<T> vectors{shape, x, n.units, n.verify, codes, buffers.finite};
  if (n.is_small) {
    const SmallNumberingKernel<T> number{
        vectors,         buffers.maxima(shape), n.limit, n.is_limited, out.number_guarded,
        buffers.leaders, buffers.positions,     out.ids, out.counts,   out.run_counts};
    launcher.launch(number, number.blocks());
    return;
  }
  fill(launcher, buffers.slots, shape.num_blocks * n.units.all_slots(), int32_t{-1});
  const InsertKernel<T> insert{vectors, buffers.slots, buffers.leaders};
  launcher.launch(insert, insert.blocks());
  scan(launcher, LeaderFlags<T>{vectors, buffers.slots, buffers.leaders}, shape, buffers, out.counts);
  // Unless some clusters are not shared, or vectors that share nothing get numbers, a leader's position is its number.
  if (n.is_limited || out.number_guarded) {
    scan(launcher, ClusterFlags{n.units, n.limit, out.number_guarded, buffers.positions, buffers.leaders}, shape,
         buffers, out.counts);
  }
  const NumberKernel number{shape.num_blocks, shape.vectors,     out.number_guarded,
                            buffers.leaders,  buffers.positions, out.counts,
                            out.ids,          out.run_counts,    sums};
  launcher.launch(number, number.blocks());
}

// Device memory of the members' sums, where they are not kept in shared memory.
inline MemberSums take_sums(Arena& arena, const Shape& s, const Numbering& n, int32_t rows) {
  const int64_t all = static_cast<int64_t>(s.num_blocks) * rows;
  MemberSums sums{rows, s.length, nullptr, nullptr, nullptr};
  if (n.verify || n.is_small) return sums;
  sums.elements = arena.take<int64_t>(all * s.length);
  sums.members = arena.take<int32_t>(all);
  if (n.angular) sums.norms = arena.take<int64_t>(all);
  return sums;
}

// What centroids are written from and to.
template <typename T, typename Centroid>
struct CentroidOperands {
  const T* x;
  const int32_t *ids, *counts;
  MemberSums sums;         // cleared
  bool guarded_have_rows;  // whether ids of guarded vectors are numbers
  Centroid* centroids;     // [B, rows, L]
};

// Writes the means of numbered clusters.
template <typename T, typename Centroid, typename Launcher>
void write_means(Launcher& launcher, const Shape& shape, const Numbering& n, const NumberingBuffers& buffers,
                 const CentroidOperands<T, Centroid>& o) {
  const SumScale scale{shape.vectors, shape.length, buffers.largest};
  if (n.is_small) {
    const MeansKernel<T, Centroid> means{shape,           o.x,           scale,    {0, nullptr, nullptr}, o.ids,
                                         buffers.leaders, buffers.norms, o.counts, o.sums.rows,           o.centroids};
    launcher.launch(means, means.blocks());
    return;
  }
  const SumMembersKernel<T> add{shape, o.x, scale, o.ids, buffers.leaders, buffers.norms, o.sums};
  launcher.launch(add, add.blocks());
  if (n.angular) {
    const SumNormsKernel norms{shape.num_blocks, shape.vectors, scale, o.ids, buffers.leaders, buffers.norms, o.sums};
    launcher.launch(norms, norms.blocks());
  }
  launcher.launch(DivideKernel<Centroid>{shape.num_blocks, shape.length, o.counts, scale, o.sums, o.centroids},
                  shared_blocks(launcher));
}

// Writes the centroids of numbered clusters.
template <typename T, typename Centroid, typename Launcher>
void write_centroids(Launcher& launcher, const Shape& shape, const Numbering& n, const NumberingBuffers& buffers,
                     const CentroidOperands<T, Centroid>& o) {
  if (!n.verify) write_means(launcher, shape, n, buffers, o);
  if (!n.verify && !o.guarded_have_rows) return;
  const CopyMembersKernel<T, Centroid> copy{shape, o.x, o.sums.rows, n.verify, o.ids, buffers.leaders, o.centroids};
  launcher.launch(copy, copy.blocks());
}

// Operator Hash: codes [B, V]. Trees without a rotation read the few elements that they split on where they lie.
template <typename T, typename Launcher>
void run_hash(Launcher& launcher, const Shape& shape, const HashOperands& hash, const T* x, int64_t* codes) {
  if (shape.vectors == 0) return;
  const bool reads_few = hash.family == Family::kLearned && hash.projections == nullptr;
  const Tiling tiling = reads_few ? Tiling::without_tile(shape.length) : Tiling::of(shape.length);
  const HashKernel<T> kernel{shape, tiling, x, hash, codes, nullptr, nullptr, nullptr};
  launcher.launch(kernel, kernel.blocks());
}

// Operator Cluster: every guarded vector has a row. Who needs to know how many clusters there are before there is
// memory for their centroids takes the two steps one by one.
template <typename T>
class StagedCluster {
 public:
  // Codes have at most so many `bits`.
  StagedCluster(const Blocking& blocking, const ClusterAttributes& attributes, int32_t bits = 64,
                const PathLimits& limits = {})
      : shape_(make_shape(blocking)),
        numbering_(plan_numbering(shape_, attributes, bits, std::numeric_limits<int32_t>::max(), limits)) {}

  // Rows of centroids that are enough for any input.
  int32_t rows() const { return std::max(1, shape_.vectors); }

  size_t scratch_bytes() const { return numbering_bytes() + sums_bytes(rows()); }

  template <typename Launcher>
  void run(Launcher& launcher, const T* x, const int64_t* codes, int32_t* ids, T* centroids, int32_t* counts,
           int64_t* statistics, void* scratch) const {
    number(launcher, {}, x, nullptr, codes, ids, counts, statistics, scratch);
    fill(launcher, centroids, static_cast<int64_t>(shape_.num_blocks) * rows() * shape_.length, T{});
    average(launcher, x, ids, counts, scratch, rows(), centroids, static_cast<char*>(scratch) + numbering_bytes());
  }

  // The first step writes codes, ids and counts, and leaves in `numbering` what the second needs.
  size_t numbering_bytes() const {
    Arena arena(nullptr);
    NumberingBuffers::take(arena, shape_, numbering_);
    return arena.used();
  }
  template <typename Launcher>
  void hash_and_number(Launcher& launcher, const HashOperands& hash, const T* x, int64_t* codes, int32_t* ids,
                       int32_t* counts, void* numbering) const {
    number(launcher, hash, x, codes, codes, ids, counts, nullptr, numbering);
  }

  // The second step writes the centroids of clusters that exist, of at most `rows` per block.
  size_t sums_bytes(int32_t rows) const {
    Arena arena(nullptr);
    take_sums(arena, shape_, numbering_, rows);
    return arena.used();
  }
  template <typename Launcher>
  void average(Launcher& launcher, const T* x, const int32_t* ids, const int32_t* counts, void* numbering, int32_t rows,
               T* centroids, void* scratch) const {
    if (shape_.vectors == 0) return;
    Arena arena(numbering), sums_arena(scratch);
    const auto buffers = NumberingBuffers::take(arena, shape_, numbering_);
    const MemberSums sums = take_sums(sums_arena, shape_, numbering_, rows);
    if (sums.elements != nullptr) {
      launcher.launch(ClearSumsKernel{shape_.num_blocks, counts, sums}, shared_blocks(launcher));
    }
    write_centroids(launcher, shape_, numbering_, buffers,
                    CentroidOperands<T, T>{x, ids, counts, sums, true, centroids});
  }

 private:
  // `new_codes` are written before `codes` are read, or null.
  template <typename Launcher>
  void number(Launcher& launcher, const HashOperands& hash, const T* x, int64_t* new_codes, const int64_t* codes,
              int32_t* ids, int32_t* counts, int64_t* statistics, void* numbering) const {
    if (shape_.vectors == 0) {
      fill(launcher, counts, shape_.num_blocks, int32_t{0});
      return;
    }
    Arena arena(numbering);
    const auto buffers = NumberingBuffers::take(arena, shape_, numbering_);
    inspect(launcher, shape_, hash, buffers, x, new_codes);
    number_clusters(launcher, shape_, numbering_, buffers, x, codes, {ids, counts, true, {statistics}}, {});
  }

  Shape shape_;
  Numbering numbering_;
};

}  // namespace reuse::cuda
