// Fits a tree of family `learned` to neuron vectors: which coordinate each node compares, and with what.
#pragma once

#include <cstdint>

namespace reuse {

struct TreeShape {
  int64_t depth;   // H: comparisons from the root to a leaf
  int64_t leaves;  // at most so many nodes are leaves that vectors reach
};

// Fits a tree of each of `num_shapes` shapes to `count` row-major `vectors` of `length` elements, of which those with a
// NaN or an infinity take no part; together they cost as much as the largest. A squared difference in a coordinate
// counts `importance[coordinate]`. Writes 2^depth - 1 `coordinates` and `thresholds` per tree, in level order
// (docs/operators.md, Hash), tree after tree.
//
// The leaf whose split reduces the summed error of its members most is split next. A node that is not split sends all
// vectors left, past a threshold of infinity. Thresholds of a coordinate lie on a grid of multiples of a power of two,
// of which they span at most 254, unless that would join some of few values. Equal inputs give equal trees. Throws
// std::invalid_argument for sizes that make no sense.
void fit_trees(const float* vectors, int64_t count, int64_t length, const float* importance, const TreeShape* shapes,
               int64_t num_shapes, int32_t* coordinates, float* thresholds);

}  // namespace reuse
