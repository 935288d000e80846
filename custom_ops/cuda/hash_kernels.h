// Hashing: a code per neuron vector (docs/operators.md, Hash), whether it is finite, and its norm.
#pragma once

#include "vectors.h"

namespace reuse::cuda {

enum class Family : int32_t { kSign, kPStable, kLearned, kExact };

struct HashOperands {
  Family family;
  int32_t num_hashes;
  const float* projections;
  const float* thresholds;
  const int32_t* coordinates;
  const float* widths;
};

constexpr uint64_t kMixStart = 0x9E3779B97F4A7C15ull;

REUSE_BOTH inline uint64_t mix(uint64_t state, uint64_t key) {
  state = (state ^ key) * 0xBF58476D1CE4E5B9ull;
  return state ^ (state >> 29);
}

// Directions that are projected on at once: their sums stay in registers.
constexpr int kProjectedAtOnce = 16;

// Calls use(h, projection) for every direction of the block.
template <typename T, typename Use>
REUSE_BOTH void project(const NeuronVector<T>& vector, const float* projections, int32_t num_hashes, const Use& use) {
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

template <typename T>
REUSE_BOTH uint64_t sign_code(const NeuronVector<T>& vector, const HashOperands& hash, int32_t block, int32_t length) {
  const float* thresholds = hash.thresholds + static_cast<int64_t>(block) * hash.num_hashes;
  uint64_t code = 0;
  project(vector, hash.projections + static_cast<int64_t>(block) * length * hash.num_hashes, hash.num_hashes,
          [&](int32_t h, float projected) {
            if (projected > thresholds[h]) code |= uint64_t{1} << h;
          });
  return code;
}

// floor as an integer, clamped to [-2^62, 2^62]; NaN counts as 0.
REUSE_BOTH inline int64_t slab(float projected, float offset, float width) {
  constexpr float kLargest = 4611686018427387904.0f;
  const float value = floorf((projected + offset) / width);
  if (is_nan(value)) return 0;
  return static_cast<int64_t>(value < -kLargest ? -kLargest : value > kLargest ? kLargest : value);
}

template <typename T>
REUSE_BOTH uint64_t pstable_code(const NeuronVector<T>& vector, const HashOperands& hash, int32_t block,
                                 int32_t length) {
  const float* offsets = hash.thresholds + static_cast<int64_t>(block) * hash.num_hashes;
  uint64_t state = kMixStart;
  project(vector, hash.projections + static_cast<int64_t>(block) * length * hash.num_hashes, hash.num_hashes,
          [&](int32_t h, float projected) {
            state = mix(state, static_cast<uint64_t>(slab(projected, offsets[h], hash.widths[block])));
          });
  return state;
}

template <typename T>
REUSE_BOTH uint64_t learned_code(const NeuronVector<T>& vector, const HashOperands& hash, int32_t block,
                                 int32_t length) {
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

template <typename T>
REUSE_BOTH uint64_t exact_code(const NeuronVector<T>& vector) {
  uint64_t state = kMixStart;
  for (int32_t l = 0; l < vector.length(); ++l) state = mix(state, bits_of(vector[l]));
  return state;
}

// One thread per vector: threads that follow one another read pixels that do, so NCHW data are read in whole lines.
template <typename T>
struct HashKernel {
  static constexpr int kThreads = 128;
  struct Shared {
    uint32_t largest;
  };

  Shape shape;
  const T* x;
  HashOperands hash;
  // Each may be null, which leaves its part out.
  int64_t* codes;     // [B, V]
  uint8_t* finite;    // [B, V]
  uint32_t* largest;  // [B]: bits of the largest magnitude of a finite element; starts as 0
  double* norms;      // [B, V]

  REUSE_BOTH static int64_t blocks(const Shape& shape) {
    return static_cast<int64_t>(shape.num_blocks) * divide_up(shape.vectors, kThreads);
  }

  REUSE_BOTH void run(const Group<kThreads>& group, Shared& shared) const {
    const int32_t per_block = divide_up(shape.vectors, kThreads);
    const int32_t block = static_cast<int32_t>(group.block / per_block);
    const int32_t first = static_cast<int32_t>(group.block % per_block) * kThreads;
    group.phase([&](int thread) {
      if (thread == 0) shared.largest = 0;
    });
    group.phase([&](int thread) {
      if (thread < shape.vectors - first) inspect(block, first + thread, shared);
    });
    group.phase([&](int thread) {
      if (thread == 0 && largest != nullptr) atomic_max(largest + block, shared.largest);
    });
    if (codes == nullptr) return;
    group.phase([&](int thread) {
      if (thread < shape.vectors - first) write_code(block, first + thread);
    });
  }

 private:
  REUSE_BOTH void inspect(int32_t block, int32_t index, Shared& shared) const {
    if (finite == nullptr && largest == nullptr && norms == nullptr) return;
    const NeuronVector<T> vector(shape, x, block, index);
    bool all_finite = true;
    float most = 0.0f;
    double squares = 0.0;
    REUSE_UNROLL_8
    for (int32_t l = 0; l < vector.length(); ++l) {
      const float value = vector[l];
      const bool good = is_finite(value);
      all_finite = all_finite && good;
      if (good) most = larger(most, magnitude(value));
      if (norms != nullptr) squares += static_cast<double>(value) * static_cast<double>(value);
    }
    const int64_t at = static_cast<int64_t>(block) * shape.vectors + index;
    if (finite != nullptr) finite[at] = all_finite ? 1 : 0;
    if (norms != nullptr) norms[at] = sqrt(squares);
    if (largest != nullptr) atomic_max(&shared.largest, bits_of(most));
  }

  REUSE_BOTH void write_code(int32_t block, int32_t index) const {
    const NeuronVector<T> vector(shape, x, block, index);
    uint64_t code = 0;
    switch (hash.family) {
      case Family::kSign:
        code = sign_code(vector, hash, block, shape.length);
        break;
      case Family::kPStable:
        code = pstable_code(vector, hash, block, shape.length);
        break;
      case Family::kLearned:
        code = learned_code(vector, hash, block, shape.length);
        break;
      case Family::kExact:
        code = exact_code(vector);
        break;
    }
    codes[static_cast<int64_t>(block) * shape.vectors + index] = static_cast<int64_t>(code);
  }
};

}  // namespace reuse::cuda
