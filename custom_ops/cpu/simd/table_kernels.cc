// The table of all kernels of one instruction set.
#include "table_kernels.h"

#include "hash_kernels.h"

namespace reuse {
namespace simd {
namespace REUSE_TARGET {
namespace {

// What the compiler was told of the machine, so that what is probed is what may be used.
constexpr uint32_t compiled_extensions() {
  uint32_t found = 0;
#ifdef __AVX2__
  found |= kAvx2;
#endif
#ifdef __FMA__
  found |= kFma;
#endif
#ifdef __F16C__
  found |= kF16c;
#endif
#ifdef __AVX512F__
  found |= kAvx512F;
#endif
#ifdef __AVX512BW__
  found |= kAvx512Bw;
#endif
#ifdef __AVX512DQ__
  found |= kAvx512Dq;
#endif
#ifdef __AVX512VL__
  found |= kAvx512Vl;
#endif
  return found;
}

constexpr Kernels make_table() {
  Kernels k{};
  k.name = REUSE_TARGET_NAME;
  k.extensions = compiled_extensions();
  k.project = project;
  k.sign_bits = sign_bits;
  k.tree_leaves = tree_leaves;
  k.subtree_leaves = subtree_leaves;
  k.whole_subtrees = kWholeSubtrees;
  k.byte_leaves = byte_leaves;
  k.leaves_of_bytes = leaves_of_bytes;
  k.dequantise = dequantise;
  k.tile_rows = tile_rows;
  k.fingerprint = fingerprint;
  k.all_finite = all_finite;
  k.all_finite_rows = all_finite_rows;
  k.transpose_rows = transpose_rows;
  k.add_members = add_members;
  k.add_strips = add_strips;
  k.add_rows = add_rows;
  k.write_means = write_means;
  k.copy_pieces = copy_pieces;
  k.gemm = gemm;
  k.gemm_int8 = gemm_int8;
  k.add_taps = add_taps;
  k.add_taps_int8 = add_taps_int8;
  k.add_static_int8 = add_static_int8;
  k.update_static_int8 = update_static_int8;
  k.finish_static_int8 = finish_static_int8;
  k.mark_changes = mark_changes;
  k.add_static_float = add_static_float;
  k.write_output = write_output;
  k.write_rows = write_rows;
  k.pool_row = pool_row;
  k.scatter_taps = scatter_taps;
  k.pack_pixels = pack_pixels;
  k.fold_rows = fold_rows;
  k.multiply_bytes = multiply_bytes;
  k.subtract_zero_points = subtract_zero_points;
  k.keep_largest = keep_largest;
  k.write_entries = write_entries;
  k.add_windows = add_windows;
  k.write_bytes = write_bytes;
  k.write_quantised = write_quantised;
  k.write_floats = write_floats;
  return k;
}

}  // namespace

extern const Kernels kKernels;
constexpr Kernels kKernels = make_table();

}  // namespace REUSE_TARGET
}  // namespace simd
}  // namespace reuse
