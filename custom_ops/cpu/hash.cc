// Operator Hash: codes of all neuron vectors.
#include <algorithm>

#include "heuristics.h"
#include "reuse/operators.h"
#include "tile.h"

namespace reuse {

void hash(Context& context, const Blocking& blocking, const HashAttributes& attributes,
          const HashParameters& parameters, const float* x, int64_t* codes) {
  const int64_t length = blocking.sub_vector_length();
  const int64_t per_task = task_vectors(blocking.vectors);
  const int64_t tasks_per_block = (blocking.vectors + per_task - 1) / per_task;
  const HashFamily& family = *attributes.family;
  context.parallel.run(tasks_per_block * blocking.num_blocks(), [&](int64_t task) {
    const int64_t block = task / tasks_per_block;
    const int64_t begin = task % tasks_per_block * per_task;
    const int64_t end = std::min(begin + per_task, blocking.vectors);
    Buffer<float> values(context.allocator, static_cast<size_t>(length * kTileVectors));
    Buffer<float> scratch(context.allocator, static_cast<size_t>(family.scratch_floats(length, attributes.num_hashes)));
    for (int64_t first = begin; first < end; first += kTileVectors) {
      const Tile tile = load_tile(blocking, x, block, first, std::min(kTileVectors, end - first), values.data());
      family.codes(tile, block, length, attributes.num_hashes, parameters, scratch.data(),
                   codes + block * blocking.vectors + first);
    }
  });
}

}  // namespace reuse
