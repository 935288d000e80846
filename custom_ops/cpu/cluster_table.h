// The hash table from codes to clusters of one block.
#pragma once

#include <cstdint>

#include "reuse/runtime.h"
#include "reuse/slot_key.h"

namespace reuse {

// Codes below 2^16, as families of up to 16 bits make them, index a table directly, which grows with the largest of
// them. Others go by open addressing with linear probing; that table grows before it is more than half full.
class ClusterTable {
 public:
  explicit ClusterTable(Allocator& allocator, uint64_t key = slot_key())
      : direct_(allocator), used_codes_(allocator), codes_(allocator), ids_(allocator), key_(key) {
    reset();
  }

  // Forgets all clusters.
  void reset() {
    for (size_t i = 0; i < used_codes_.size(); ++i) direct_[static_cast<size_t>(used_codes_[i])] = -1;
    used_codes_.resize(0);
    if (ids_.size() != kSmallest) {
      codes_.clear();
      ids_.clear();
    }
    if (used_ > 0 || ids_.size() != kSmallest) {
      codes_.resize(kSmallest);
      ids_.resize(kSmallest);
      mark_empty();
    }
    used_ = 0;
  }

  // Returns the cluster of a code, or -1.
  int32_t find(int64_t code) const {
    if (static_cast<uint64_t>(code) < kDirectCodes) {
      return static_cast<size_t>(code) < direct_.size() ? direct_[static_cast<size_t>(code)] : -1;
    }
    for (size_t slot = first_slot(code);; slot = (slot + 1) & mask()) {
      if (ids_[slot] < 0) return -1;
      if (codes_[slot] == code) return ids_[slot];
    }
  }

  // Has the memory fetched where the cluster of a code is to be looked for.
  void prefetch(int64_t code) const {
    const size_t slot = first_slot(code);
    __builtin_prefetch(codes_.data() + slot);
    __builtin_prefetch(ids_.data() + slot);
  }

  // Adds the cluster of a code that has none.
  void insert(int64_t code, int32_t id) {
    if (static_cast<uint64_t>(code) < kDirectCodes) return insert_directly(static_cast<size_t>(code), id);
    if (2 * (used_ + 1) > ids_.size()) grow();
    place(code, id);
    ++used_;
  }

  // Makes room for these codes: adding them, or some of them, throws nothing.
  void make_room(const int64_t* codes, int64_t count) {
    int64_t largest = -1;
    size_t others = 0, direct = 0;
    for (int64_t i = 0; i < count; ++i) {
      const bool small = static_cast<uint64_t>(codes[i]) < kDirectCodes;
      largest = small && codes[i] > largest ? codes[i] : largest;
      ++(small ? direct : others);
    }
    if (largest >= 0) grow_directly(static_cast<size_t>(largest));
    const size_t used = used_codes_.size();
    used_codes_.resize(used + direct);
    used_codes_.resize(used);
    while (2 * (used_ + others) > ids_.size()) grow();
  }

  // The most slots that a code is looked for in.
  size_t longest_search() const {
    size_t longest = 0, run = 0;
    for (size_t slot = 0; slot < 2 * ids_.size(); ++slot) {  // twice round, as runs go on from the end to the begin
      run = ids_[slot & mask()] < 0 ? 0 : run + 1;
      longest = run > longest ? run : longest;
    }
    return longest + 1;
  }

 private:
  static constexpr size_t kSmallest = 256;
  static constexpr uint64_t kDirectCodes = 1 << 16;

  void grow_directly(size_t code) {
    if (code < direct_.size()) return;
    const size_t old = direct_.size();
    size_t size = old < kSmallest ? kSmallest : old;
    while (size <= code) size *= 2;
    direct_.resize(size);
    for (size_t i = old; i < size; ++i) direct_[i] = -1;
  }

  void insert_directly(size_t code, int32_t id) {
    grow_directly(code);
    direct_[code] = id;
    used_codes_.resize(used_codes_.size() + 1);
    used_codes_[used_codes_.size() - 1] = static_cast<int32_t>(code);
  }

  size_t mask() const { return ids_.size() - 1; }

  // Codes that differ in few bits, high or low ones, spread out by the first product; the second one makes sure that
  // codes at equal distances do so, too.
  size_t first_slot(int64_t code) const {
    uint64_t h = static_cast<uint64_t>(code) * key_;
    h = (h ^ (h >> 32)) * key_;
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

  // Out of memory, all stays as it was.
  void grow() {
    Buffer<int64_t> codes(codes_.allocator(), 2 * codes_.size());
    Buffer<int32_t> ids(ids_.allocator(), 2 * ids_.size());
    codes_.swap(codes);
    ids_.swap(ids);
    mark_empty();
    for (size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] >= 0) place(codes[i], ids[i]);
    }
  }

  Buffer<int32_t> direct_;      // by code
  Buffer<int32_t> used_codes_;  // codes that direct_ has
  Buffer<int64_t> codes_;
  Buffer<int32_t> ids_;
  size_t used_ = 0;  // in codes_ and ids_
  uint64_t key_;
};

}  // namespace reuse
