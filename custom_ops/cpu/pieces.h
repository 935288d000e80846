// Loops over many small pieces, shared out between threads.
#pragma once

#include <algorithm>

#include "heuristics.h"
#include "reuse/runtime.h"

namespace reuse {

// Calls `body(begin, end)` in parallel for stretches that make up all of the pieces, in few enough tasks.
template <typename Body>
void for_pieces(Parallel& parallel, int64_t pieces, const Body& body) {
  const int64_t per_task = std::max<int64_t>(1, pieces / kTasksPerLoop);
  parallel.run((pieces + per_task - 1) / per_task,
               [&](int64_t task) { body(task * per_task, std::min(pieces, (task + 1) * per_task)); });
}

}  // namespace reuse
