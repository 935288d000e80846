// The table of all kernels of one instruction set.
#include "table_kernels.h"

#include "hash_kernels.h"

namespace reuse {
namespace simd {
namespace REUSE_TARGET {

extern const Kernels kKernels;
const Kernels kKernels = {REUSE_TARGET_NAME, project,     sign_bits,   tree_leaves,  subtree_leaves,
                          kWholeSubtrees,    tile_rows,   fingerprint, all_finite,   all_finite_rows,
                          transpose_rows,    add_members, add_strips,  add_rows,     write_means,
                          copy_pieces,       gemm,        gemm_int8,   add_taps,     add_taps_int8,
                          write_output,      write_rows,  pool_row,    scatter_taps, pack_pixels,
                          fold_rows};

}  // namespace REUSE_TARGET
}  // namespace simd
}  // namespace reuse
