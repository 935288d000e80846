// Hashing: a code per neuron vector (docs/operators.md, Hash), whether it is finite, and its norm.
#pragma once

#include "vector_tile.h"

namespace reuse::cuda {

enum class Family : int32_t { kSign, kLearned, kExact };
constexpr const char* kFamilyNames[] = {"sign", "learned", "exact"};

struct HashOperands {
  Family family;
  int32_t num_hashes;
  const float* projections;
  const float* thresholds;
  const int32_t* coordinates;
};

constexpr uint64_t kMixStart = 0x9E3779B97F4A7C15ull;

REUSE_BOTH inline uint64_t mix(uint64_t state, uint64_t key) {
  state = (state ^ key) * 0xBF58476D1CE4E5B9ull;
  return state ^ (state >> 29);
}

// Directions that are projected on at once: their sums stay in registers.
constexpr int kProjectedAtOnce = 16;

// Calls use(h, projection) for every direction of the block.
template <typename Vector, typename Use>
REUSE_BOTH void project(const Vector& vector, const float* projections, int32_t num_hashes, const Use& use) {
  for (int32_t first = 0; first < num_hashes; first += kProjectedAtOnce) {
    const int32_t count = smaller(kProjectedAtOnce, num_hashes - first);
    float sums[kProjectedAtOnce] = {};
    for (int32_t l = 0; l < vector.length(); ++l) {
      const float value = vector[l];
      const float* row = projections + static_cast<int64_t>(l) * num_hashes + first;
      REUSE_UNROLL
      for (int h = 0; h < kProjectedAtOnce; ++h) {
        if (h < count) sums[h] = add_product(sums[h], value, row[h]);
      }
    }
    REUSE_UNROLL
    for (int h = 0; h < kProjectedAtOnce; ++h) {
      if (h < count) use(first + h, sums[h]);
    }
  }
}

template <typename Vector>
REUSE_BOTH uint64_t sign_code(const Vector& vector, const HashOperands& hash, int32_t block, int32_t length) {
  const float* thresholds = hash.thresholds + static_cast<int64_t>(block) * hash.num_hashes;
  uint64_t code = 0;
  project(vector, hash.projections + static_cast<int64_t>(block) * length * hash.num_hashes, hash.num_hashes,
          [&](int32_t h, float projected) {
            if (projected > thresholds[h]) code |= uint64_t{1} << h;
          });
  return code;
}

template <typename Vector>
REUSE_BOTH uint64_t learned_code(const Vector& vector, const HashOperands& hash, int32_t block, int32_t length) {
  const int64_t nodes = (int64_t{1} << hash.num_hashes) - 1;
  const int32_t* coordinates = hash.coordinates + block * nodes;
  const float* thresholds = hash.thresholds + block * nodes;
  int64_t node = 0;
  for (int32_t h = 0; h < hash.num_hashes; ++h) {
    // Coordinates of a model's constants are checked when a session is made; others must not lead outside.
    const int32_t coordinate = larger(0, smaller(coordinates[node], length - 1));
    float value = 0.0f;
    if (hash.projections == nullptr) {
      value = vector.padded(coordinate);
    } else {
      const float* rotation = hash.projections + static_cast<int64_t>(block) * length * length + coordinate;
      for (int32_t l = 0; l < vector.length(); ++l) {
        value = add_product(value, vector[l], rotation[static_cast<int64_t>(l) * length]);
      }
    }
    node = 2 * node + 1 + (value > thresholds[node] ? 1 : 0);
  }
  return static_cast<uint64_t>(node - nodes);
}

template <typename Vector>
REUSE_BOTH uint64_t exact_code(const Vector& vector) {
  uint64_t state = kMixStart;
  for (int32_t l = 0; l < vector.length(); ++l) state = mix(state, bits_of(vector[l]));
  return state;
}

// The code of a block's vector, wherever its elements lie.
template <typename Vector>
REUSE_BOTH uint64_t code_of(const Vector& vector, const HashOperands& hash, int32_t block, int32_t length) {
  switch (hash.family) {
    case Family::kSign:
      return sign_code(vector, hash, block, length);
    case Family::kLearned:
      return learned_code(vector, hash, block, length);
    case Family::kExact:
      return exact_code(vector);
  }
  return 0;
}

// Bits that a family's codes have at most.
inline int32_t code_bits(const HashOperands& hash) {
  switch (hash.family) {
    case Family::kSign:
    case Family::kLearned:
      return hash.num_hashes;
    case Family::kExact:
      break;
  }
  return 64;
}

template <typename Vector>
REUSE_BOTH double norm_of(const Vector& vector) {
  double squares = 0.0;
  for (int32_t l = 0; l < vector.length(); ++l) {
    const double value = vector[l];
    squares += value * value;
  }
  return sqrt(squares);
}

// Reads X once: elements are looked at on their way into a tile, from which codes and norms are computed. Vectors too
// long for a tile are read again for these.
template <typename T>
struct HashKernel {
  static constexpr int kThreads = kTileThreads;
  static constexpr int kResident = kResidentTiles;
  using Shared = VectorTile<T>;

  Shape shape;
  Tiling tiling;
  const T* x;
  HashOperands hash;
  // Each may be null, which leaves its part out.
  int64_t* codes;     // [B, V]
  uint8_t* finite;    // [B, V]
  uint32_t* largest;  // [B, tiles]: bits of the largest magnitude of a finite element
  double* norms;      // [B, V]

  REUSE_BOTH int64_t blocks() const { return static_cast<int64_t>(shape.num_blocks) * tiling.tiles(shape.vectors); }

  REUSE_BOTH void run(const Group<kThreads>& group, Shared& tile) const {
    const Tiling::Place place = tiling.tile(group.block, shape.vectors);
    const int32_t block = place.block, first = place.first, count = place.count;
    group.phase([&](int thread) { tile.clear(thread); });
    if (tiling.in_tile || finite != nullptr || largest != nullptr) {
      group.phase([&](int thread) { tile.load(shape, tiling, x, block, first, count, thread); });
    }
    group.phase([&](int thread) {
      if (thread == 0 && largest != nullptr) largest[group.block] = tile.largest;
      if (thread >= count) return;
      if (finite != nullptr) finite[offset(block) + first + thread] = tile.spoiled[thread] == 0 ? 1 : 0;
      if (tiling.in_tile) {
        write(tile.vector(shape, tiling, block, thread), block, first + thread);
      } else {
        write(NeuronVector<T>(shape, x, block, first + thread), block, first + thread);
      }
    });
  }

 private:
  REUSE_BOTH int64_t offset(int32_t block) const { return static_cast<int64_t>(block) * shape.vectors; }

  template <typename Vector>
  REUSE_BOTH void write(const Vector& vector, int32_t block, int32_t index) const {
    if (norms != nullptr) norms[offset(block) + index] = norm_of(vector);
    if (codes == nullptr) return;
    codes[offset(block) + index] = static_cast<int64_t>(code_of(vector, hash, block, shape.length));
  }
};

}  // namespace reuse::cuda
