#include "reuse/tree_fit.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <queue>
#include <stdexcept>
#include <vector>

namespace reuse {
namespace {

// Values of a coordinate are told apart by so many quantiles of all vectors: enough that a node of any depth has some
// among its members, few enough that a bin's number is a byte.
constexpr int64_t kBins = 256;

// Coordinates whose thresholds are searched, those with the largest spread first. More than two gain next to nothing.
constexpr int64_t kTried = 2;

struct Split {
  double gain = 0.0;  // by how much the members' summed error falls
  int32_t coordinate = 0;
  int32_t bin = 0;  // members of higher bins go right
};

struct Node {
  int64_t index;       // in level order
  int64_t depth;       // the root's is 0
  int64_t begin, end;  // its members' places in the order
  Split split;
  int64_t left, right;  // its children's places in the list of nodes, -1 until it is split
};

// Returns a number that is not less than `low` and less than `high`, about in the middle.
float halfway(float low, float high) {
  const float middle = low / 2.0f + high / 2.0f;
  return low <= middle && middle < high ? middle : low;
}

// Neighbouring values, one of which an edge sends left and one right.
struct Gap {
  float below, above;
  float middle() const { return halfway(below, above); }
};

// Edges in the gaps. They are multiples of a power of two, of which they span at most 254, so that a walk down the tree
// can compare bytes; one is chosen that lies in the gap, if there is any, and else the nearest, which may be a
// neighbour's. Returns nothing if numbers of a float's size have no such multiples.
std::vector<float> edges_on_grid(const std::vector<Gap>& gaps) {
  constexpr int kLowest = -100, kHighest = 100, kDigits = 22;
  constexpr double kMostSteps = 254.0;
  if (gaps.empty()) return {};
  const double first = gaps.front().middle(), last = gaps.back().middle();
  int digits = 0, steps = 0;
  std::frexp(std::max(std::abs(first), std::abs(last)), &digits);
  std::frexp((last - first) / kMostSteps, &steps);
  // A step less may do, and the rounding of the outermost edges may need one more.
  for (int exponent = std::max({digits - kDigits, last > first ? steps - 1 : kLowest, kLowest}); exponent <= kHighest;
       ++exponent) {
    const auto in_steps = [exponent](double value) { return std::ldexp(value, -exponent); };
    std::vector<double> places;
    for (const Gap& gap : gaps) {
      const double lowest = std::ceil(in_steps(gap.below)), highest = std::ceil(in_steps(gap.above)) - 1.0;
      const double nearest = std::nearbyint(in_steps(gap.middle()));
      places.push_back(lowest <= highest ? std::clamp(nearest, lowest, highest) : nearest);
    }
    if (places.back() - places.front() > kMostSteps) continue;
    std::vector<float> edges;
    for (const double place : places) {
      const auto edge = static_cast<float>(std::ldexp(place, exponent));
      if (edges.empty() || edge > edges.back()) edges.push_back(edge);
    }
    return edges;
  }
  return {};
}

class Fit {
 public:
  Fit(const float* vectors, int64_t count, const float* importance, int64_t length)
      : vectors_(vectors), importance_(importance), count_(count), length_(length) {
    // Values that are not finite cannot be sorted, and would lead outside of the arrays.
    const auto is_finite = [](float value) { return std::isfinite(value); };
    for (int64_t i = 0; i < count; ++i) {
      if (std::all_of(vectors + i * length, vectors + (i + 1) * length, is_finite)) order_.push_back(i);
    }
    edges_.resize(length);
    bins_.resize(length * count);
    for (int64_t l = 0; l < length; ++l) find_bins(l);
  }

  // Nodes that an earlier run has split are not split again: the same split is best in every tree.
  void run(const TreeShape& shape, int32_t* coordinates, float* thresholds) {
    if (nodes_.empty()) nodes_.push_back(make_node(0, 0, 0, static_cast<int64_t>(order_.size())));
    const auto less_useful = [this](int64_t a, int64_t b) {
      const Node &first = nodes_[a], &second = nodes_[b];
      return first.split.gain != second.split.gain ? first.split.gain < second.split.gain : first.index > second.index;
    };
    std::priority_queue<int64_t, std::vector<int64_t>, decltype(less_useful)> waiting(less_useful);
    waiting.push(0);
    for (int64_t leaves = 1; leaves < shape.leaves && !waiting.empty(); ++leaves) {
      const int64_t place = waiting.top();
      const Node node = nodes_[place];
      if (node.split.gain <= 0.0) break;
      waiting.pop();
      coordinates[node.index] = node.split.coordinate;
      thresholds[node.index] = edges_[node.split.coordinate][node.split.bin];
      if (node.depth + 1 == shape.depth) continue;
      if (node.left < 0) divide(place);
      waiting.push(nodes_[place].left);
      waiting.push(nodes_[place].right);
    }
  }

 private:
  // A value's bin is the number of edges below it, so that `value > edges[b]` is the same as `bin > b`. Edges lie about
  // halfway between values that occur: the same vectors, computed with other rounding, must not change sides together.
  void find_bins(int64_t l) {
    std::vector<float> sorted;
    sorted.reserve(order_.size());
    for (const int64_t i : order_) sorted.push_back(vectors_[i * length_ + l]);
    std::sort(sorted.begin(), sorted.end());
    const auto count = static_cast<int64_t>(sorted.size());
    std::vector<Gap> gaps;
    for (int64_t b = 1; b < kBins && count > 0; ++b) {
      const float below = sorted[b * count / kBins];
      if (below == sorted.back()) break;
      if (gaps.empty() || below > gaps.back().below) {
        gaps.push_back({below, *std::upper_bound(sorted.begin(), sorted.end(), below)});
      }
    }
    std::vector<float>& edges = edges_[l];
    edges = edges_on_grid(gaps);
    // Where edges tell all values apart, a grid must, too: few distinct vectors get a leaf each.
    const auto values = std::unique(sorted.begin(), sorted.end()) - sorted.begin();
    const bool all_apart = static_cast<int64_t>(gaps.size()) + 1 == values;
    const auto in_gap = [](float edge, const Gap& gap) { return gap.below <= edge && edge < gap.above; };
    if (edges.empty() || (all_apart && !std::equal(edges.begin(), edges.end(), gaps.begin(), gaps.end(), in_gap))) {
      edges.clear();
      for (const Gap& gap : gaps) edges.push_back(gap.middle());
    }
    for (const int64_t i : order_) {
      const auto below = std::lower_bound(edges.begin(), edges.end(), vectors_[i * length_ + l]);
      bins_[l * count_ + i] = static_cast<uint8_t>(below - edges.begin());
    }
  }

  Node make_node(int64_t index, int64_t depth, int64_t begin, int64_t end) {
    return {index, depth, begin, end, end - begin < 2 ? Split{} : best_split(begin, end), -1, -1};
  }

  Split best_split(int64_t begin, int64_t end) {
    find_moments(begin, end);
    Split best;
    for (int64_t tried = 0; tried < std::min(kTried, length_); ++tried) {
      const auto widest = std::max_element(spread_.begin(), spread_.end());
      if (*widest <= 0.0) break;
      const auto coordinate = static_cast<int32_t>(widest - spread_.begin());
      const Split split = best_threshold(coordinate, begin, end);
      if (split.gain > best.gain) best = split;
      *widest = 0.0;
    }
    return best;
  }

  void find_moments(int64_t begin, int64_t end) {
    mean_.assign(length_, 0.0);
    spread_.assign(length_, 0.0);
    for (int64_t place = begin; place < end; ++place) {
      const float* v = vectors_ + order_[place] * length_;
      for (int64_t l = 0; l < length_; ++l) mean_[l] += v[l];
    }
    for (double& mean : mean_) mean /= static_cast<double>(end - begin);
    for (int64_t place = begin; place < end; ++place) {
      const float* v = vectors_ + order_[place] * length_;
      for (int64_t l = 0; l < length_; ++l) spread_[l] += (v[l] - mean_[l]) * (v[l] - mean_[l]);
    }
    for (int64_t l = 0; l < length_; ++l) spread_[l] *= importance_[l];
  }

  // Splitting n members into k and n - k reduces the summed squared error by |s|^2 (1/k + 1/(n - k)), where s is the
  // sum of the k members' deviations from the mean.
  Split best_threshold(int32_t coordinate, int64_t begin, int64_t end) {
    const auto edges = static_cast<int64_t>(edges_[coordinate].size());
    sizes_.assign(edges + 1, 0);
    sums_.assign((edges + 1) * length_, 0.0);
    const uint8_t* bins = bins_.data() + coordinate * count_;
    for (int64_t place = begin; place < end; ++place) {
      const int64_t member = order_[place];
      const float* v = vectors_ + member * length_;
      double* sum = sums_.data() + bins[member] * length_;
      ++sizes_[bins[member]];
      for (int64_t l = 0; l < length_; ++l) sum[l] += v[l] - mean_[l];
    }
    Split best;
    best.coordinate = coordinate;
    std::vector<double>& left = left_;
    left.assign(length_, 0.0);
    int64_t k = 0;
    for (int64_t bin = 0; bin < edges; ++bin) {
      if (sizes_[bin] == 0) continue;
      k += sizes_[bin];
      if (k == end - begin) break;
      double squares = 0.0;
      for (int64_t l = 0; l < length_; ++l) {
        left[l] += sums_[bin * length_ + l];
        squares += importance_[l] * left[l] * left[l];
      }
      const double gain = squares * (1.0 / static_cast<double>(k) + 1.0 / static_cast<double>(end - begin - k));
      if (gain > best.gain) {
        best.gain = gain;
        best.bin = static_cast<int32_t>(bin);
      }
    }
    return best;
  }

  void divide(int64_t place) {
    const Node node = nodes_[place];
    const uint8_t* bins = bins_.data() + node.split.coordinate * count_;
    const auto right = std::stable_partition(order_.begin() + node.begin, order_.begin() + node.end,
                                             [&](int64_t member) { return bins[member] <= node.split.bin; });
    const int64_t middle = right - order_.begin();
    nodes_[place].left = static_cast<int64_t>(nodes_.size());
    nodes_[place].right = nodes_[place].left + 1;
    nodes_.push_back(make_node(2 * node.index + 1, node.depth + 1, node.begin, middle));
    nodes_.push_back(make_node(2 * node.index + 2, node.depth + 1, middle, node.end));
  }

  const float* vectors_;
  const float* importance_;
  int64_t count_, length_;
  std::vector<Node> nodes_;
  std::vector<int64_t> order_;             // members of a node are neighbours
  std::vector<std::vector<float>> edges_;  // by coordinate, ascending; fewer than kBins
  std::vector<uint8_t> bins_;              // [L, count]
  std::vector<double> mean_, spread_, sums_, left_;
  std::vector<int64_t> sizes_;
};

}  // namespace

void fit_trees(const float* vectors, int64_t count, int64_t length, const float* importance, const TreeShape* shapes,
               int64_t num_shapes, int32_t* coordinates, float* thresholds) {
  constexpr int64_t kDeepest = 16;
  const bool fits = std::all_of(shapes, shapes + num_shapes, [](const TreeShape& shape) {
    return shape.depth >= 1 && shape.depth <= kDeepest && shape.leaves >= 1;
  });
  if (count < 0 || length < 1 || !fits) {
    throw std::invalid_argument("a tree needs vectors of one element or more, a depth of 1 to 16, and a leaf");
  }
  Fit fit(vectors, count, importance, length);
  for (const TreeShape* shape = shapes; shape < shapes + num_shapes; ++shape) {
    const int64_t nodes = (int64_t{1} << shape->depth) - 1;
    std::fill_n(coordinates, nodes, 0);
    std::fill_n(thresholds, nodes, std::numeric_limits<float>::infinity());
    fit.run(*shape, coordinates, thresholds);
    coordinates += nodes;
    thresholds += nodes;
  }
}

}  // namespace reuse
