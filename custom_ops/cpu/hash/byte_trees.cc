#include "byte_trees.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <vector>

namespace reuse {
namespace {

constexpr int64_t kTable = 16, kFirstLevels = 4;
constexpr uint8_t kNever = 255;  // the threshold of a node that sends no vector to the right

// So many planes tell the rows of a level apart.
constexpr int64_t kMostPlanes = 5;
static_assert(int64_t{1} << kMostPlanes == simd::kMostByteRows, "planes are numbers of rows, bit by bit");

// Tables and words of a tree at most: as if every level had all planes.
struct Sizes {
  int64_t tables = 0, words = 0;
  explicit Sizes(int64_t depth) {
    for (int64_t level = 0; level < std::min(depth, simd::kByteLevels); ++level) {
      const int64_t per_byte = simd::planes_per_byte(level);
      tables += kTable * ((int64_t{1} << std::max<int64_t>(0, level - kFirstLevels)) +
                          (kMostPlanes + per_byte - 1) / per_byte * simd::bytes_per_plane(level));
      words += simd::kMostByteRows;
    }
    words += std::max<int64_t>(0, (int64_t{1} << depth) - (int64_t{1} << simd::kByteLevels));
  }
};

bool sends_right(float threshold) { return threshold < std::numeric_limits<float>::infinity(); }  // false for a NaN

// The grid that all thresholds of one coordinate lie on: (base + k) * 2^exponent with k = 0 ... 254.
struct Grid {
  int exponent;
  int64_t base;
};

// The exponent of the lowest bit that is set in a finite number other than zero.
int lowest_bit(float value) {
  int exponent;
  const auto digits = static_cast<int64_t>(std::ldexp(std::frexp(value, &exponent), 24));
  int zeros = 0;
  while (((digits >> zeros) & 1) == 0) ++zeros;
  return exponent - 24 + zeros;
}

// Sums with 2^23 steps have steps for their last bit, and stay far from numbers that are not normal: other grids are
// not worth having.
std::optional<Grid> find_grid(const std::vector<float>& thresholds) {
  constexpr int kLowest = -100, kHighest = 100;
  constexpr int64_t kMostSteps = int64_t{1} << 22;
  int exponent = kHighest;
  for (const float threshold : thresholds) {
    if (!std::isfinite(threshold)) return std::nullopt;
    if (threshold != 0.0f) exponent = std::min(exponent, lowest_bit(threshold));
  }
  if (exponent < kLowest) return std::nullopt;
  const auto [least, most] = std::minmax_element(thresholds.begin(), thresholds.end());
  const double first = std::ldexp(*least, -exponent), last = std::ldexp(*most, -exponent);
  if (std::abs(first) > kMostSteps || last - first > kNever - 1) return std::nullopt;
  return Grid{exponent, static_cast<int64_t>(first)};
}

// That of bytes, if none of the thresholds is below all of them.
std::optional<Grid> byte_grid(const std::vector<float>& thresholds) {
  if (*std::min_element(thresholds.begin(), thresholds.end()) < 0.0f) return std::nullopt;
  return Grid{0, 0};
}

int64_t reversed(int64_t bits, int64_t count) {
  int64_t result = 0;
  for (int64_t i = 0; i < count; ++i) result |= ((bits >> i) & 1) << (count - 1 - i);
  return result;
}

// A node as bytes.
struct Node {
  uint8_t row, threshold;
};

}  // namespace

// Writes one tree.
class ByteTrees::Writer {
 public:
  // `bytes`: the length of vectors of bytes, all of which have a row; 0 for floats.
  Writer(const int32_t* coordinates, const float* thresholds, int64_t depth, int64_t bytes)
      : coordinates_(coordinates), thresholds_(thresholds), depth_(depth), bytes_(bytes) {}

  // Returns the tree, which points to what was written from these places on; or one of depth 0 if there is no grid.
  simd::ByteTree write(simd::ByteGrid* grids, uint8_t* tables, uint16_t* words) {
    simd::ByteTree tree{};
    if (!find_rows(grids)) return tree;
    tree.depth = depth_;
    tree.num_rows = static_cast<int64_t>(rows_.size());
    tree.grids = grids;
    const int64_t levels = std::min(depth_, simd::kByteLevels), first = std::min(depth_, kFirstLevels);
    for (int64_t level = 0; level < levels; ++level) {
      tree.levels[level] = write_level(level, tables, words);
      if (level < kFirstLevels) continue;
      const int32_t bit = 1 << (levels - 1 - level);
      for (int byte = 0; byte < 2; ++byte) tree.bits[byte][level] = ((bit >> 8 * byte) & 0xFF) * 0x01010101;
    }
    for (int64_t way = 0; way < kTable; ++way) {
      const int64_t leaf = reversed(way & ((1 << first) - 1), first) << (levels - first);
      for (int byte = 0; byte < 2; ++byte) tree.leaves[byte][way] = static_cast<uint8_t>(leaf >> 8 * byte);
    }
    tree.deep = words;
    for (size_t i = (size_t{1} << levels) - 1; i < nodes_.size(); ++i) {
      *words++ = static_cast<uint16_t>(nodes_[i].threshold | nodes_[i].row << 8);
    }
    return tree;
  }

 private:
  // Gives each coordinate that decides anything a row and a grid, and all nodes their bytes. Returns whether it can.
  bool find_rows(simd::ByteGrid* grids) {
    const int64_t nodes = (int64_t{1} << depth_) - 1;
    for (int32_t l = 0; l < bytes_; ++l) rows_.push_back(l);
    for (int64_t i = 0; i < nodes; ++i) {
      if (sends_right(thresholds_[i])) rows_.push_back(coordinates_[i]);
    }
    std::sort(rows_.begin(), rows_.end());
    rows_.erase(std::unique(rows_.begin(), rows_.end()), rows_.end());
    if (rows_.empty()) rows_.push_back(0);
    if (static_cast<int64_t>(rows_.size()) > simd::kMostByteRows) return false;
    std::vector<std::vector<float>> own(rows_.size());
    nodes_.assign(static_cast<size_t>(nodes), {0, kNever});
    for (int64_t i = 0; i < nodes; ++i) {
      if (!sends_right(thresholds_[i])) continue;
      const auto row = std::lower_bound(rows_.begin(), rows_.end(), coordinates_[i]) - rows_.begin();
      own[static_cast<size_t>(row)].push_back(thresholds_[i]);
      nodes_[static_cast<size_t>(i)].row = static_cast<uint8_t>(row);
    }
    std::vector<Grid> found;
    for (size_t row = 0; row < rows_.size(); ++row) {
      const std::optional<Grid> grid = own[row].empty() ? Grid{0, 0}
                                       : bytes_ > 0     ? byte_grid(own[row])
                                                        : find_grid(own[row]);
      if (!grid) return false;
      found.push_back(*grid);
      grids[row].coordinate = rows_[row];
      grids[row].first = std::ldexp(static_cast<float>(grid->base), grid->exponent);
      grids[row].shift = std::ldexp(static_cast<float>((1 << 23) - grid->base), grid->exponent);
      const float zero = std::ldexp(1.0f, 23 + grid->exponent);
      std::memcpy(&grids[row].zero, &zero, sizeof(zero));
    }
    for (size_t i = 0; i < nodes_.size(); ++i) {
      if (!sends_right(thresholds_[i])) continue;
      const Grid& grid = found[nodes_[i].row];
      const double steps = std::ldexp(static_cast<double>(thresholds_[i]), -grid.exponent);
      nodes_[i].threshold = static_cast<uint8_t>(static_cast<int64_t>(steps) - grid.base);
    }
    return true;
  }

  // Writes the tables of a level and moves the places to write at on.
  simd::ByteLevel write_level(int64_t level, uint8_t*& tables, uint16_t*& words) const {
    const int64_t width = int64_t{1} << level, above = std::min(level, kFirstLevels), below = level - above;
    const Node* nodes = nodes_.data() + width - 1;
    // The rows that nodes of this level choose among. One that sends nothing right may have any.
    std::vector<uint8_t> rows;
    for (int64_t i = 0; i < width; ++i) {
      if (nodes[i].threshold == kNever) continue;
      if (std::find(rows.begin(), rows.end(), nodes[i].row) == rows.end()) rows.push_back(nodes[i].row);
    }
    if (rows.empty()) rows.push_back(0);
    simd::ByteLevel result{};
    while (int64_t{1} << result.num_planes < static_cast<int64_t>(rows.size())) ++result.num_planes;
    const int64_t choices = int64_t{1} << result.num_planes, per_byte = simd::planes_per_byte(level);
    const int64_t several = simd::bytes_per_plane(level);
    const int64_t bytes = (result.num_planes + per_byte - 1) / per_byte * several;
    uint8_t* thresholds = tables;
    uint8_t* planes = tables + (kTable << below);
    tables = planes + bytes * kTable;
    std::fill(thresholds, tables, uint8_t{0});
    for (int64_t i = 0; i < width; ++i) {
      const int64_t own = i & ((int64_t{1} << below) - 1), way = reversed(i >> below, above);
      thresholds[own * kTable + way] = nodes[i].threshold;
      const auto place = std::find(rows.begin(), rows.end(), nodes[i].row);
      const int64_t choice = place == rows.end() ? 0 : place - rows.begin();
      for (int64_t plane = 0; plane < result.num_planes; ++plane) {
        const int64_t bit = ((choice >> plane) & 1) << (own / several * per_byte + plane % per_byte);
        planes[(plane / per_byte * several + own % several) * kTable + way] |= static_cast<uint8_t>(bit);
      }
    }
    result.thresholds = thresholds;
    result.planes = planes;
    result.rows = words;
    for (int64_t choice = 0; choice < choices; ++choice) {
      const uint8_t row = rows[std::min(static_cast<size_t>(choice), rows.size() - 1)];
      *words++ = static_cast<uint16_t>(row * kTileVectors);
    }
    return result;
  }

  const int32_t* coordinates_;
  const float* thresholds_;
  int64_t depth_, bytes_;
  std::vector<int32_t> rows_;  // their coordinates, ascending
  std::vector<Node> nodes_;
};

ByteTrees::ByteTrees(Allocator& allocator, const HashParameters& parameters, const HashShape& s, bool of_bytes)
    : trees_(allocator, static_cast<size_t>(s.num_blocks)),
      grids_(allocator, static_cast<size_t>(s.num_blocks * std::min(s.length, simd::kMostByteRows))),
      tables_(allocator, static_cast<size_t>(s.num_blocks * Sizes(s.num_hashes).tables)),
      words_(allocator, static_cast<size_t>(s.num_blocks * Sizes(s.num_hashes).words)),
      rotations_(allocator,
                 parameters.projections == nullptr
                     ? 0
                     : static_cast<size_t>(s.num_blocks * s.length * std::min(s.length, simd::kMostByteRows))) {
  const int64_t nodes = (int64_t{1} << s.num_hashes) - 1, most_rows = std::min(s.length, simd::kMostByteRows);
  const Sizes sizes(s.num_hashes);
  for (int64_t block = 0; block < s.num_blocks; ++block) {
    simd::ByteTree& tree = trees_[static_cast<size_t>(block)];
    simd::ByteGrid* grids = grids_.data() + block * most_rows;
    tree = Writer(parameters.coordinates + block * nodes, parameters.thresholds + block * nodes, s.num_hashes,
                  of_bytes ? s.length : 0)
               .write(grids, tables_.data() + block * sizes.tables, words_.data() + block * sizes.words);
    complete_ = complete_ && tree.depth > 0;
    if (tree.depth == 0 || parameters.projections == nullptr) continue;
    // Nothing but what the tree compares is computed.
    float* rotation = rotations_.data() + block * s.length * most_rows;
    tree.rotation = rotation;
    for (int64_t l = 0; l < s.length; ++l) {
      const float* row = parameters.projections + (block * s.length + l) * s.length;
      for (int64_t r = 0; r < tree.num_rows; ++r) *rotation++ = row[grids[r].coordinate];
    }
    for (int64_t r = 0; r < tree.num_rows; ++r) grids[r].coordinate = static_cast<int32_t>(r);
  }
}

}  // namespace reuse
