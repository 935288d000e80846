// Clustering as a sequence of kernels, for any launcher.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "centroid_kernels.h"
#include "fill_kernel.h"
#include "numbering_kernels.h"
#include "setup.h"

namespace reuse::cuda {

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

// Operator Hash: codes [B, V].
template <typename T, typename Launcher>
void run_hash(Launcher& launcher, const Shape& shape, const HashOperands& hash, const T* x, int64_t* codes) {
  if (shape.vectors == 0) return;
  const HashKernel<T> kernel{shape, x, hash, codes, nullptr, nullptr, nullptr};
  launcher.launch(kernel, kernel.blocks(shape));
}

// Operator Cluster: every guarded vector has a row. Who needs to know how many clusters there are before there is
// memory for their centroids takes the two steps one by one.
template <typename T>
class StagedCluster {
 public:
  // Codes have at most so many `bits`.
  StagedCluster(const Blocking& blocking, const ClusterAttributes& attributes, int32_t bits = 64)
      : shape_(make_shape(blocking)),
        numbering_(plan_numbering(shape_, attributes, bits, std::numeric_limits<int32_t>::max())) {}

  // Rows of centroids that are enough for any input.
  int32_t rows() const { return std::max(1, shape_.vectors); }

  size_t scratch_bytes() const { return numbering_bytes() + sums_bytes(rows()); }

  template <typename Launcher>
  void run(Launcher& launcher, const T* x, const int64_t* codes, int32_t* ids, T* centroids, int32_t* counts,
           int64_t* statistics, void* scratch) const {
    number(launcher, x, codes, ids, counts, scratch);
    fill(launcher, centroids, static_cast<int64_t>(shape_.num_blocks) * rows() * shape_.length, T{});
    average(launcher, x, ids, counts, scratch, rows(), centroids, static_cast<char*>(scratch) + numbering_bytes());
    if (statistics == nullptr || shape_.vectors == 0) return;
    Arena arena(scratch);
    const auto buffers = NumberingBuffers::take(arena, shape_, numbering_);
    const StatisticsKernel kernel{shape_.num_blocks, true, counts, buffers.guarded, statistics};
    launcher.launch(kernel, kernel.blocks());
  }

  // The first step writes ids and counts, and leaves in `numbering` what the second needs.
  size_t numbering_bytes() const {
    Arena arena(nullptr);
    NumberingBuffers::take(arena, shape_, numbering_);
    return arena.used();
  }
  template <typename Launcher>
  void number(Launcher& launcher, const T* x, const int64_t* codes, int32_t* ids, int32_t* counts,
              void* numbering) const {
    Arena arena(numbering);
    const auto buffers = NumberingBuffers::take(arena, shape_, numbering_);
    fill(launcher, buffers.guarded, 2 * static_cast<int64_t>(shape_.num_blocks), int32_t{0});
    fill(launcher, counts, shape_.num_blocks, int32_t{0});
    if (shape_.vectors == 0) return;
    const HashKernel<T> inspect{shape_, x, {}, nullptr, buffers.finite, buffers.largest, buffers.norms};
    launcher.launch(inspect, inspect.blocks(shape_));
    number_clusters(launcher, shape_, numbering_, buffers, x, codes, true, ids, counts);
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
    Arena arena(numbering), sums(scratch);
    const auto buffers = NumberingBuffers::take(arena, shape_, numbering_);
    write_centroids(launcher, shape_, numbering_, buffers, x, take_sums(sums, shape_, numbering_, rows), ids, counts,
                    true, centroids);
  }

 private:
  Shape shape_;
  Numbering numbering_;
};

}  // namespace reuse::cuda
