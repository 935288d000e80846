// Neuron vectors of a block in shared memory: X is read once, in the order that it lies in, however often and in
// whatever order elements are needed.
#pragma once

#include "vectors.h"

namespace reuse::cuda {

constexpr int kTileThreads = 256;
constexpr int32_t kMostTileVectors = kTileThreads;  // a thread may have one each
constexpr int32_t kTileElements = 8704;             // 512 x (16 + 1) or 256 x (32 + 1)

// Tiles of a multiprocessor: while some are loaded, others are hashed. Four leave the L1 cache room for a tree.
constexpr int kResidentTiles = 4;

// How a block's vectors are cut into tiles: a power of two of them, as many as shared memory has room for.
struct Tiling {
  int32_t log_columns;  // 2^log_columns is the length, rounded up
  int32_t log_vectors;
  bool in_tile;  // whether elements are kept; vectors that are too long for that are only looked at

  static Tiling of(int32_t length) {
    constexpr int32_t kLogArea = 13, kLogMostColumns = 9, kLogMostVectors = 8;
    const int32_t log_columns = log2_up(length);
    if (log_columns > kLogMostColumns) return without_tile(length);
    return {log_columns, smaller(kLogMostVectors, kLogArea - log_columns), true};
  }
  static Tiling without_tile(int32_t length) { return {log2_up(length), log2_up(kMostTileVectors), false}; }

  REUSE_BOTH int32_t columns() const { return 1 << log_columns; }
  REUSE_BOTH int32_t vectors() const { return 1 << log_vectors; }
  // How items are counted off vector by vector.
  REUSE_BOTH int32_t vector_of(int32_t item) const { return item >> log_columns; }
  REUSE_BOTH int32_t element_of(int32_t item) const { return item & (columns() - 1); }
  REUSE_BOTH int32_t stride() const { return vectors() + 1; }  // odd: neither order of access hits one bank
  REUSE_BOTH int32_t tiles(int32_t all_vectors) const { return divide_up(all_vectors, vectors()); }

  // A tile: `count` vectors of a block from `first` on.
  struct Place {
    int32_t block, first, count;
  };
  REUSE_BOTH Place tile(int64_t index, int32_t all_vectors) const {
    const int32_t of_block = tiles(all_vectors), first = static_cast<int32_t>(index % of_block) * vectors();
    return {static_cast<int32_t>(index / of_block), first, smaller(vectors(), all_vectors - first)};
  }
};

// A neuron vector in a tile.
template <typename T>
class TileVector {
 public:
  REUSE_BOTH TileVector(const T* first, int32_t stride, int32_t length)
      : first_(first), stride_(stride), length_(length) {}
  REUSE_BOTH int32_t length() const { return length_; }
  REUSE_BOTH float operator[](int32_t l) const { return to_float(first_[l * stride_]); }
  REUSE_BOTH float padded(int32_t l) const { return l < length_ ? (*this)[l] : 0.0f; }

 private:
  const T* first_;
  int32_t stride_, length_;
};

// Raises a word to the largest value of the threads. Every thread of the block must call it.
REUSE_BOTH inline void raise_by_all(uint32_t* target, uint32_t value) {
#ifdef __CUDA_ARCH__
  value = __reduce_max_sync(0xFFFFFFFFu, value);
  if (threadIdx.x % 32 == 0) atomicMax(target, value);
#else
  *target = larger(*target, value);
#endif
}

// The shared memory of a tile; trivial. Between clear, load and what reads there must be a barrier.
template <typename T>
struct VectorTile {
  T values[kTileElements];             // element l of vector p at l * stride + p
  uint32_t spoiled[kMostTileVectors];  // not 0: the vector has an element that is not finite
  uint32_t largest;                    // bits of the largest magnitude of a finite element

  REUSE_BOTH void clear(int thread) {
    spoiled[thread] = 0;
    if (thread == 0) largest = 0;
  }

  // Loads `count` vectors from `first` on, and looks at them. Every thread must call it.
  REUSE_BOTH void load(const Shape& shape, const Tiling& tiling, const T* x, int32_t block, int32_t first,
                       int32_t count, int thread) {
    const uint32_t most = shape.input_pixel_major ? load_pixel_by_pixel(shape, tiling, x, block, first, count, thread)
                                                  : load_plane_by_plane(shape, tiling, x, block, first, count, thread);
    raise_by_all(&largest, most);
  }

  REUSE_BOTH TileVector<T> vector(const Shape& shape, const Tiling& tiling, int32_t block, int32_t p) const {
    return {values + p, tiling.stride(), shape.block_length(block)};
  }

 private:
  static constexpr int kAhead = 8;  // elements that a thread reads before it looks at any: loads wait side by side

  // Threads side by side read one element of vectors side by side, and return the largest magnitude's bits.
  REUSE_BOTH uint32_t load_plane_by_plane(const Shape& shape, const Tiling& tiling, const T* x, int32_t block,
                                          int32_t first, int32_t count, int thread) {
    const int32_t p = thread & (tiling.vectors() - 1), step = kTileThreads >> tiling.log_vectors;
    if (p >= count) return 0;
    const NeuronVector<T> vector(shape, x, block, first + p);
    uint32_t most = 0;
    for (int32_t l = thread >> tiling.log_vectors; l < vector.length(); l += kAhead * step) {
      T own[kAhead];
      REUSE_UNROLL
      for (int i = 0; i < kAhead; ++i) own[i] = l + i * step < vector.length() ? vector.stored(l + i * step) : T{};
      REUSE_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        if (l + i * step < vector.length()) most = larger(most, put(tiling, own[i], p, l + i * step));
      }
    }
    return most;
  }

  // Threads side by side read elements side by side of one vector.
  REUSE_BOTH uint32_t load_pixel_by_pixel(const Shape& shape, const Tiling& tiling, const T* x, int32_t block,
                                          int32_t first, int32_t count, int thread) {
    const int32_t length = shape.block_length(block);
    const auto exists = [&](int32_t item) {
      return tiling.vector_of(item) < count && tiling.element_of(item) < length;
    };
    uint32_t most = 0;
    for (int32_t item = thread; tiling.vector_of(item) < count; item += kAhead * kTileThreads) {
      T own[kAhead];
      REUSE_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        const int32_t at = item + i * kTileThreads;
        own[i] = exists(at) ? element(shape, tiling, x, block, first, at) : T{};
      }
      REUSE_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        const int32_t at = item + i * kTileThreads;
        if (exists(at)) most = larger(most, put(tiling, own[i], tiling.vector_of(at), tiling.element_of(at)));
      }
    }
    return most;
  }

  REUSE_BOTH static T element(const Shape& shape, const Tiling& tiling, const T* x, int32_t block, int32_t first,
                              int32_t item) {
    return NeuronVector<T>(shape, x, block, first + tiling.vector_of(item)).stored(tiling.element_of(item));
  }

  // Returns the magnitude's bits of what is finite, which compare as the magnitudes do; else 0.
  REUSE_BOTH uint32_t put(const Tiling& tiling, T stored, int32_t p, int32_t l) {
    if (tiling.in_tile) values[l * tiling.stride() + p] = stored;
    const float value = to_float(stored);
    if (is_finite(value)) return bits_of(magnitude(value));
    atomic_max(spoiled + p, 1u);
    return 0;
  }
};

// The largest magnitudes that tiles found. Nothing of it needs to be cleared beforehand, which would be a launch.
struct TileMaxima {
  const uint32_t* of_tiles;  // [B, tiles]
  int32_t tiles;
  uint32_t* largest;  // [B]

  // Joins those of block group.block; `shared` is a word of the group's own.
  template <int kThreads>
  REUSE_BOTH void join(const Group<kThreads>& group, uint32_t& shared) const {
    group.phase([&](int thread) {
      if (thread == 0) shared = 0;
    });
    group.phase([&](int thread) {
      uint32_t most = 0;
      for (int32_t i = thread; i < tiles; i += kThreads) most = larger(most, of_tiles[group.block * tiles + i]);
      raise_by_all(&shared, most);
    });
    group.phase([&](int thread) {
      if (thread == 0) largest[group.block] = shared;
    });
  }
};

}  // namespace reuse::cuda
