#include "kept_clusters.h"

#include <algorithm>
#include <limits>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

#include "heuristics.h"
#include "large_memory.h"
#include "last_run.h"

namespace reuse {
namespace {

// Rows for clusters that a run makes and that are not kept: this part of those that may be kept. Where there are more,
// tables are made for the run alone, in pieces that fit the cache.
constexpr int64_t kPassingShare = 4;

// A state's own memory: whoever asks for its counts may hold it for longer than the session lives.
LargeMemory memory;

std::shared_ptr<KeptClusters> copy_of(const KeptClusters& kept) {
  auto result = std::make_shared<KeptClusters>();
  result->group_width = kept.group_width;
  result->bytes = kept.bytes;
  result->count = kept.count;
  result->blocks.reserve(kept.blocks.size());
  for (const KeptBlock& block : kept.blocks) {
    KeptBlock& own = result->blocks.emplace_back(memory);
    own.make_room(block.codes);
    for (size_t i = 0; i < block.codes.size(); ++i) own.add(block.codes[i], block.rows[i]);
  }
  return result;
}

}  // namespace

RowPool::RowPool(Allocator& allocator, const RowShape& shape, int64_t capacity)
    : widths_(shape.widths), taken_(static_cast<size_t>(capacity)) {
  widths_.insert(widths_.begin(), shape.length);
  for (const int64_t width : widths_) pieces_.emplace_back(allocator, static_cast<size_t>(capacity * width));
}

int64_t RowPool::take(int64_t count) {
  const int64_t size = capacity();
  const auto is_taken = [&](int64_t row) { return taken_[static_cast<size_t>(row)] != 0; };
  while (first_free_ < size && is_taken(first_free_)) ++first_free_;
  for (int64_t first = first_free_, row = first; row < size; ++row) {
    if (is_taken(row)) first = row + 1;
    if (row + 1 - first < count) continue;
    std::fill_n(taken_.begin() + first, count, uint8_t{1});
    return first;
  }
  return -1;
}

void RowPool::give_back(int64_t row) {
  taken_[static_cast<size_t>(row)] = 0;
  first_free_ = std::min(first_free_, row);
}

void RowPool::copy_row(RowPool& from, int64_t from_row, int64_t to_row) {
  taken_[static_cast<size_t>(to_row)] = 1;
  for (size_t i = 0; i < pieces_.size(); ++i) {
    std::copy_n(from.piece(i, from_row), widths_[i], piece(i, to_row));
  }
}

void KeptBlock::make_room(const std::vector<int64_t>& fresh) {
  const size_t size = codes.size() + fresh.size();
  if (size > codes.capacity() || size > rows.capacity()) {
    codes.reserve(2 * size);
    rows.reserve(2 * size);
  }
  places.make_room(fresh.data(), static_cast<int64_t>(fresh.size()));
}

void KeptBlock::add(int64_t code, int32_t row) {
  places.insert(code, static_cast<int32_t>(codes.size()));
  codes.push_back(code);
  rows.push_back(row);
}

bool Pause::covers_run() {
  if (runs_ == 0) return false;
  --runs_;
  return true;
}

bool Pause::found(bool was_useful) {
  if (!was_useful) runs_ = next_;
  next_ = was_useful ? first_ : std::min(2 * next_ + 1, kLongestPause);
  return runs_ > 0;
}

bool ReuseState::is_to_search() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return !without_search_.covers_run();
}

void ReuseState::searched(bool has_paid) {
  const std::lock_guard<std::mutex> lock(mutex_);
  without_search_.found(has_paid);
}

ReuseState::ReuseState(int64_t memory) : memory_(memory), kept_(std::make_shared<KeptClusters>()) {}

ReuseState::~ReuseState() = default;

ReuseState::Counts ReuseState::counts() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return {kept_->count, kept_->count * kept_->bytes + (last_ == nullptr ? 0 : last_->shape.bytes())};
}

void ReuseState::reset() {
  auto empty = std::make_shared<KeptClusters>();
  const std::lock_guard<std::mutex> lock(mutex_);
  kept_ = std::move(empty);
  pool_ = nullptr;
  last_ = nullptr;
  without_last_.reset();
  without_search_.reset();
  ++resets_;
}

KeptRun::KeptRun(ReuseState& state, const Blocking& blocking, RowShape shape)
    : state_(state),
      shape_(std::move(shape)),
      num_blocks_(static_cast<size_t>(blocking.num_blocks())),
      group_width_(blocking.group_width),
      rows_(num_blocks_) {
  const std::lock_guard<std::mutex> lock(state_.mutex_);
  if (state_.kept_->blocks.empty()) prepare(*state_.kept_);
  if (!fits(*state_.kept_)) {
    throw std::invalid_argument(
        "X has other channels than in earlier runs, whose clusters scope session keeps: use a session of its own, or "
        "forget the clusters (reset_clusters) before");
  }
  kept_ = state_.kept_;
  pool_ = state_.pool_;
  resets_ = state_.resets_;
}

KeptRun::~KeptRun() {
  // Under the lock, so that who finds no other reference sees all that was done with them.
  const std::lock_guard<std::mutex> lock(state_.mutex_);
  for (int64_t i = 0; i < own_.count; ++i) {
    if (added_[static_cast<size_t>(i)] == 0) pool_->give_back(own_.first + i);
  }
  kept_.reset();
  pool_.reset();
}

bool KeptRun::fits(const KeptClusters& kept) const {
  return kept.blocks.size() == num_blocks_ && kept.group_width == group_width_;
}

// Makes blocks of no clusters. Under the lock, as are the next two.
void KeptRun::prepare(KeptClusters& kept) const {
  std::vector<KeptBlock> blocks;
  blocks.reserve(num_blocks_);
  for (size_t b = 0; b < num_blocks_; ++b) blocks.emplace_back(memory);
  kept.blocks = std::move(blocks);
  kept.group_width = group_width_;
  kept.bytes = shape_.bytes;
}

// A pool with room for `count` more rows, in which kept clusters have the rows that they had.
std::shared_ptr<RowPool> KeptRun::enlarged(const KeptClusters& kept, RowPool* pool, int64_t count) const {
  const int64_t before = pool == nullptr ? 0 : pool->capacity();
  const int64_t most = limit() + limit() / kPassingShare;
  const int64_t capacity = std::max(before + count, std::min(2 * before, most));
  if (capacity > std::numeric_limits<int32_t>::max()) throw std::bad_alloc();
  auto result = std::make_shared<RowPool>(memory, shape_, capacity);
  for (const KeptBlock& block : kept.blocks) {
    for (const int32_t row : block.rows) result->copy_row(*pool, row, row);
  }
  return result;
}

// Runs that have rows of a pool that is replaced go on with it.
int64_t KeptRun::take_in_state(int64_t count) {
  int64_t first = state_.pool_ == nullptr ? -1 : state_.pool_->take(count);
  if (first < 0) {
    state_.pool_ = enlarged(*state_.kept_, state_.pool_.get(), count);
    first = state_.pool_->take(count);
  }
  return first;
}

bool KeptRun::take_rows(const std::vector<NewClusters>& found) {
  int64_t all = 0, to_keep = 0;
  for (const NewClusters& block : found) {
    all += block.clusters.count;
    to_keep += std::count(block.shared.begin(), block.shared.end(), uint8_t{1});
  }
  int64_t kept = 0;
  bool with_others = false;
  {
    const std::lock_guard<std::mutex> lock(state_.mutex_);
    kept = std::clamp<int64_t>(limit() - state_.kept_->count, 0, to_keep);
    with_others = all - kept <= limit() / kPassingShare;
    const int64_t count = with_others ? all : kept;
    if (count == 0) return all == 0;
    added_.resize(static_cast<size_t>(count));
    if (resets_ == state_.resets_) {
      own_.first = take_in_state(count);
      pool_ = state_.pool_;
    } else {  // the state's pool lacks what this run has seen
      pool_ = enlarged(*kept_, pool_.get(), count);
      own_.first = pool_->take(count);
    }
    own_.count = count;
  }
  hand_out(found, kept, with_others);
  return with_others;
}

void KeptRun::hand_out(const std::vector<NewClusters>& found, int64_t kept, bool with_others) {
  int64_t next = own_.first, other = next + kept;
  const int64_t end = other;
  for (size_t b = 0; b < found.size(); ++b) {
    const NewClusters& block = found[b];
    RowRange of_kept{next, 0}, of_others{other, 0};
    rows_[b].assign(static_cast<size_t>(block.clusters.count), -1);
    for (size_t c = 0; c < rows_[b].size(); ++c) {
      const bool is_kept = block.shared[c] != 0 && next < end;
      if (!is_kept && !with_others) continue;
      const int64_t row = is_kept ? next++ : other++;
      ++(is_kept ? of_kept : of_others).count;
      rows_[b][c] = static_cast<int32_t>(row);
      const float* centroid = block.clusters.centroids.data() + static_cast<int64_t>(c) * shape_.length;
      std::copy_n(centroid, shape_.length, pool_->centroid(row));
    }
    ranges_.push_back(of_kept);
    ranges_.push_back(of_others);
  }
}

void KeptRun::add(const std::vector<NewClusters>& found) {
  struct Joining {
    size_t block, cluster;
    int32_t row;
  };
  std::vector<Joining> joining;
  const std::lock_guard<std::mutex> lock(state_.mutex_);
  kept_.reset();
  if (state_.kept_->blocks.empty()) prepare(*state_.kept_);  // after a reset
  if (!fits(*state_.kept_)) return;
  std::shared_ptr<KeptClusters> target = state_.kept_;
  for (size_t b = 0; b < found.size(); ++b) {
    for (size_t c = 0; c < rows_[b].size(); ++c) {
      if (target->count + static_cast<int64_t>(joining.size()) >= limit()) break;
      if (found[b].shared[c] == 0 || rows_[b][c] < 0) continue;
      if (target->blocks[b].places.find(found[b].codes[c]) < 0) joining.push_back({b, c, rows_[b][c]});
    }
  }
  if (joining.empty()) return;
  // All that may fail comes first.
  if (target.use_count() > 2) target = copy_of(*target);  // than the state and this function see it
  std::vector<std::vector<int64_t>> codes(found.size());
  for (const Joining& one : joining) codes[one.block].push_back(found[one.block].codes[one.cluster]);
  for (size_t b = 0; b < found.size(); ++b) target->blocks[b].make_room(codes[b]);
  if (pool_ != state_.pool_) {
    int64_t row = take_in_state(static_cast<int64_t>(joining.size()));
    for (Joining& one : joining) {
      state_.pool_->copy_row(*pool_, one.row, row);
      one.row = static_cast<int32_t>(row++);
    }
  } else {
    for (const Joining& one : joining) added_[static_cast<size_t>(one.row - own_.first)] = 1;
  }
  for (const Joining& one : joining) {
    target->blocks[one.block].add(found[one.block].codes[one.cluster], one.row);
  }
  target->count += static_cast<int64_t>(joining.size());
  state_.kept_ = std::move(target);
}

}  // namespace reuse
