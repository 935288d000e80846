// Operators QLinearReuseConv and ReuseConvInteger: distinct vectors are found, then distinct windows of them, whose
// outputs are computed once. An incremental node computes the windows that are not those of the last run.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "byte_changes.h"
#include "byte_products.h"
#include "byte_tables.h"
#include "byte_weights.h"
#include "byte_windows.h"
#include "heuristics.h"
#include "last_run.h"
#include "reuse/checked.h"
#include "stopwatch.h"

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
  // written, and is added for each window: from the L2 cache, from farther away, or from where hardly any row is near.
  constexpr int64_t kWrite = 2, kAdd = 2, kAddFar = 12, kAddFarther = 24, kFarther = int64_t{8} << 20;
  const int64_t product = plan.weights().row_bytes() / 4, seen = windows * blocking.blocks_per_group;
  const int64_t bytes = distinct * table_bytes(blocking) * kNarrowestStrip;
  const int64_t add = bytes <= kTablesAtOnce ? kAdd : bytes <= kFarther ? kAddFar : kAddFarther;
  return distinct * (product + kWrite) + seen * add < seen * product;
}

// Computes equal vectors and windows of the input once; returns how many windows there are.
int64_t compute_distinct(const QuantisedPlan& plan, const Blocking& blocking, Workspace& workspace, const uint8_t* x,
                         uint8_t* y) {
  const ConvGeometry& g = blocking.geometry;
  int64_t distinct = 0;
  const ByteVectors vectors = find_byte_vectors(plan, blocking, workspace, x);
  for (int64_t group = 0; group < g.attributes.group; ++group) {
    const ByteWindows windows(workspace, blocking, vectors, group);
    distinct += windows.count();
    if (tables_pay(plan, blocking, group, vectors, windows.count())) {
      add_byte_tables(plan, blocking, workspace, group, vectors, windows, y);
    } else {
      const auto read = [&](int64_t first, int64_t count, Buffer<uint8_t>& room, const uint8_t** to) {
        windows.read(first, count, room, to);
      };
      multiply_windows(plan, blocking, workspace, group, windows.count(), windows.places(), read, y);
    }
    const int64_t own = g.group_out_channels() * plan.y_bytes();
    windows.copy(workspace, y + group * own, own, g.out_channels * plan.y_bytes());
  }
  return distinct;
}

// Of an incremental node, whose inputs may repeat from run to run and not within one.
void compute(const QuantisedPlan& plan, ReuseState* state, const Blocking& blocking, Workspace& workspace,
             const uint8_t* x, uint8_t* y) {
  const int64_t rows = blocking.geometry.rows();
  if (state != nullptr && !state->is_to_search()) {
    Buffer<int32_t> all(workspace, static_cast<size_t>(rows));
    std::iota(all.data(), all.data() + rows, 0);
    multiply_pixels(plan, blocking, workspace, all, x, y);
    return;
  }
  const int64_t distinct = compute_distinct(plan, blocking, workspace, x, y);
  if (state == nullptr) return;
  const auto windows = static_cast<double>(rows * blocking.geometry.attributes.group);
  state->searched(static_cast<double>(distinct) <= (1.0 - kLeastGain) * windows);
}

void copy(Workspace& workspace, const uint8_t* from, int64_t bytes, uint8_t* to) {
  Stopwatch watch(workspace.statistics.gather_ns);
  constexpr int64_t kPiece = int64_t{1} << 18;
  workspace.parallel.run((bytes + kPiece - 1) / kPiece, [&](int64_t task) {
    const int64_t begin = task * kPiece;
    std::memcpy(to + begin, from + begin, static_cast<size_t>(std::min(kPiece, bytes - begin)));
  });
}

}  // namespace

void qlinear_reuse_conv(const QuantisedPlan& plan, ReuseState* state, const Blocking& blocking, Workspace& workspace,
                        const uint8_t* x, uint8_t* y) {
  const ConvGeometry& g = blocking.geometry;
  checked::require(g.rows() <= INT32_MAX, "y has more than 2^31-1 pixels");
  count_vectors(workspace.statistics, blocking);
  const int64_t in_bytes = g.batch * g.in_pixels() * g.in_channels,
                out_bytes = g.rows() * g.out_channels * plan.y_bytes();
  if (out_bytes == 0) return;
  LastRunHold hold(state, {g.batch, g.in_h, g.in_w, in_bytes, 0, out_bytes});
  LastRun* const last = hold.get();
  const bool goes_on = last != nullptr && !last->empty;
  RunStatistics& statistics = workspace.statistics;
  statistics.anew = state == nullptr || goes_on ? 0 : 1;
  if (goes_on) {
    const ByteChanges changes = take_changes(blocking, workspace, x, last->input.data());
    const auto changed = static_cast<int64_t>(changes.of_outputs.size());
    statistics.changed = changes.pixels * blocking.num_blocks();
    statistics.recomputed = changed;
    if (static_cast<double>(changed) <= (1.0 - kLeastGain) * static_cast<double>(g.rows())) {
      multiply_pixels(plan, blocking, workspace, changes.of_outputs, x, last->result.data());
      copy(workspace, last->result.data(), out_bytes, y);
      hold.leave(true);
      return;
    }
  }
  compute(plan, state, blocking, workspace, x, y);
  if (last == nullptr) return;
  if (!goes_on) copy(workspace, x, in_bytes, last->input.data());
  copy(workspace, y, out_bytes, last->result.data());
  hold.leave(!goes_on);
}

}  // namespace reuse
