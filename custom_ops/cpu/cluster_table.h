// The hash table from codes to clusters of one block.
#pragma once

#include <cstdint>

#include "reuse/runtime.h"

namespace reuse {

// Open addressing with linear probing; grows before it is more than half full.
class ClusterTable {
 public:
  explicit ClusterTable(Allocator& allocator) : codes_(allocator), ids_(allocator) { reset(); }

  // Forgets all clusters.
  void reset() {
    if (ids_.size() != kSmallest) {
      codes_.clear();
      ids_.clear();
    }
    codes_.resize(kSmallest);
    ids_.resize(kSmallest);
    mark_empty();
    used_ = 0;
  }

  // Returns the first cluster under `code` for which `is_member(id)` holds, or -1.
  template <typename IsMember>
  int32_t find(int64_t code, const IsMember& is_member) const {
    for (size_t slot = first_slot(code);; slot = (slot + 1) & mask()) {
      if (ids_[slot] < 0) return -1;
      if (codes_[slot] == code && is_member(ids_[slot])) return ids_[slot];
    }
  }

  // Adds a cluster under `code`.
  void insert(int64_t code, int32_t id) {
    if (2 * (used_ + 1) > ids_.size()) grow();
    place(code, id);
    ++used_;
  }

 private:
  static constexpr size_t kSmallest = 256;

  size_t mask() const { return ids_.size() - 1; }

  // Fibonacci hashing: codes of few bits, and fingerprints that differ in their high bits only, both spread out.
  size_t first_slot(int64_t code) const {
    uint64_t h = static_cast<uint64_t>(code);
    h = (h ^ (h >> 32)) * 0x9E3779B97F4A7C15ull;
    return static_cast<size_t>(h >> 32) & mask();
  }

  void place(int64_t code, int32_t id) {
    size_t slot = first_slot(code);
    while (ids_[slot] >= 0) slot = (slot + 1) & mask();
    codes_[slot] = code;
    ids_[slot] = id;
  }

  void mark_empty() {
    for (size_t i = 0; i < ids_.size(); ++i) ids_[i] = -1;
  }

  void grow() {
    Buffer<int64_t> codes(std::move(codes_));
    Buffer<int32_t> ids(std::move(ids_));
    codes_.resize(2 * ids.size());
    ids_.resize(2 * ids.size());
    mark_empty();
    for (size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] >= 0) place(codes[i], ids[i]);
    }
  }

  Buffer<int64_t> codes_;
  Buffer<int32_t> ids_;
  size_t used_ = 0;
};

}  // namespace reuse
