// Operators QLinearReuseConv and ReuseConvInteger: distinct vectors are found, then distinct windows of them, whose
// outputs are computed once.
#include "byte_products.h"
#include "byte_tables.h"
#include "byte_weights.h"
#include "byte_windows.h"
#include "heuristics.h"
#include "reuse/checked.h"

namespace reuse {
namespace {

// Whether a table of all distinct vectors costs less than a product for each window.
bool tables_pay(const QuantisedPlan& plan, const Blocking& blocking, int64_t group, const ByteVectors& vectors,
                int64_t windows) {
  int64_t distinct = 0;
  for (int64_t b = group * blocking.blocks_per_group; b < (group + 1) * blocking.blocks_per_group; ++b) {
    distinct += vectors.blocks[static_cast<size_t>(b)].count();
  }
  // In instructions for 16 output channels and a tap, which a processor with VNNI ends one of per cycle. A table row is
  // written, and is added for each window: from the L2 cache, or from farther away.
  constexpr int64_t kWrite = 2, kAdd = 2, kAddFar = 12;
  const int64_t product = plan.weights().row_bytes() / 4, seen = windows * blocking.blocks_per_group;
  const bool far = distinct * table_bytes(blocking) * kNarrowestStrip > kTablesAtOnce;
  return distinct * (product + kWrite) + seen * (far ? kAddFar : kAdd) < seen * product;
}

}  // namespace

void qlinear_reuse_conv(const QuantisedPlan& plan, const Blocking& blocking, Workspace& workspace, const uint8_t* x,
                        uint8_t* y) {
  const ConvGeometry& g = blocking.geometry;
  checked::require(g.rows() <= INT32_MAX, "y has more than 2^31-1 pixels");
  count_vectors(workspace.statistics, blocking);
  const ByteVectors vectors = find_byte_vectors(plan, blocking, workspace, x);
  if (g.rows() == 0 || g.out_channels == 0) return;
  for (int64_t group = 0; group < g.attributes.group; ++group) {
    const ByteWindows windows(workspace, blocking, vectors, group);
    if (tables_pay(plan, blocking, group, vectors, windows.count())) {
      add_byte_tables(plan, blocking, workspace, group, vectors, windows, y);
    } else {
      multiply_windows(plan, blocking, workspace, group, vectors, windows, y);
    }
    const int64_t own = g.group_out_channels() * plan.y_bytes();
    windows.copy(workspace, y + group * own, own, g.out_channels * plan.y_bytes());
  }
}

}  // namespace reuse
