// Layers of scope session for the tests: inputs of several runs, and runs.
#pragma once

#include "reuse/state.h"
#include "support.h"

namespace reuse::testing {

// Another input of the same layer, of another size; many of its pixels are the same in all inputs. Two elements of a
// spoilt one are not finite.
Problem of_input(const Problem& layer, std::mt19937& random, bool spoil = false);

// What a kept cluster counts for.
int64_t cluster_bytes(const Problem& p, bool fused);

bool close(const std::vector<float>& actual, const std::vector<float>& expected);

// CentroidGemm and Gather of clusters.
std::vector<float> convolved(const Problem& p, const Clusters& clusters);

// Hash.
std::vector<int64_t> codes_of(const Problem& p);

}  // namespace reuse::testing
