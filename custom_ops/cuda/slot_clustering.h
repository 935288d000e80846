// Clustering with sums by slot (slot_kernels.h) as a sequence of kernels, for any launcher.
#pragma once

#include "means_kernel.h"
#include "setup.h"
#include "slot_kernels.h"

namespace reuse::cuda {

// Device memory beside the sums; see the kernels for shapes.
struct SlotBuffers {
  uint32_t *of_tiles, *largest;
  int32_t *exponents, *numbers;

  static SlotBuffers take(Arena& arena, const Shape& s, int32_t rows) {
    SlotBuffers b{};
    b.of_tiles = arena.take<uint32_t>(static_cast<int64_t>(s.num_blocks) * Tiling::of(s.length).tiles(s.vectors));
    b.largest = arena.take<uint32_t>(s.num_blocks);
    b.exponents = arena.take<int32_t>(s.num_blocks);
    b.numbers = arena.take<int32_t>(static_cast<int64_t>(s.num_blocks) * rows);
    return b;
  }

  GuessedScale scale(const Shape& s) const { return {s.vectors, exponents, largest}; }
};

// Adds every vector to the sums of its slot, which goes to `ids`.
template <typename T, typename Launcher>
void hash_into_slots(Launcher& launcher, const Shape& shape, const Units& units, const HashOperands& hash,
                     const SlotBuffers& buffers, const T* x, const MemberSums& sums, int32_t* ids) {
  const PrepareSlotsKernel<T> prepare{shape, x, sums, buffers.exponents};
  launcher.launch(prepare, prepare.blocks());
  const HashIntoSlotsKernel<T> add{
      shape, Tiling::of(shape.length), x, hash, units, buffers.scale(shape), buffers.of_tiles, ids, sums};
  launcher.launch(add, add.blocks());
}

template <typename Launcher>
void number_slots(Launcher& launcher, const Shape& shape, const SlotBuffers& buffers, const MemberSums& sums,
                  int32_t* counts, const RunCounts& run_counts) {
  const TileMaxima maxima{buffers.of_tiles, Tiling::of(shape.length).tiles(shape.vectors), buffers.largest};
  const NumberSlotsKernel number{shape.num_blocks, shape.vectors, sums, maxima, buffers.numbers, counts, run_counts};
  launcher.launch(number, number.blocks());
}

// Writes centroids, and turns `ids` from slots into numbers.
template <typename T, typename Launcher>
void divide_slots(Launcher& launcher, const Shape& shape, const SlotBuffers& buffers, const T* x,
                  const MemberSums& sums, const int32_t* counts, int32_t* ids, T* centroids) {
  const DivideSlotsKernel<T> divide{
      shape, Tiling::of(shape.length), buffers.scale(shape), sums, buffers.numbers, centroids, ids};
  launcher.launch(divide, shared_blocks(launcher));
  if (sums_are_exact<T>(shape.vectors)) return;
  const SumScale scale{shape.vectors, shape.length, buffers.largest};
  const MeansKernel<T, T> means{shape,  x,         scale,    buffers.scale(shape), ids, nullptr, nullptr,
                                counts, sums.rows, centroids};
  launcher.launch(means, means.blocks());
}

}  // namespace reuse::cuda
