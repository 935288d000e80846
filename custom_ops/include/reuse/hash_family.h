// The interface of a hash family; one file each under cpu/hash/. The Python twin is reuse_compiler/reuse/families.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "reuse/geometry.h"
#include "reuse/runtime.h"

namespace reuse {

// Neuron vectors of one block, transposed: element l of vector p is values[l * stride + p].
struct Tile {
  const float* values;
  int64_t stride;
  int64_t length;  // the block's own length, at most L
  int64_t count;
};

// Neuron vectors of one block in the order of memory: element l of vector p is values[p * stride + l].
struct Rows {
  const float* values;
  int64_t stride;
  int64_t length;  // no more can be read of the last vector; zeros from the block's own length on
  int64_t count;
};

// Largest number of vectors in a tile; small enough that tiles of usual L stay in the L1 cache.
constexpr int64_t kTileVectors = 64;

// A family's parameters for all blocks (docs/operators.md, Hash); absent ones are null.
struct HashParameters {
  const float* projections = nullptr;
  const float* thresholds = nullptr;
  const int32_t* coordinates = nullptr;
  const float* widths = nullptr;
};

// Whether each parameter is given, and how many elements it has; for checking before the pointers are used.
struct HashParameterSizes {
  int64_t projections = -1, thresholds = -1, coordinates = -1, widths = -1;  // -1: absent
};

// Codes of one block's vectors, given as rows of at least L elements.
class RowHasher {
 public:
  virtual ~RowHasher() = default;
  virtual void codes(const Rows& rows, int64_t* codes) const = 0;
};

// Codes of one block's vectors, given as tiles: prepared for many of them.
class TileCoder {
 public:
  virtual ~TileCoder() = default;
  // Writes the code of each of the tile's vectors. `scratch` holds HashFamily::scratch_floats(L, H) floats.
  virtual void codes(const Tile& tile, float* scratch, int64_t* codes) const = 0;
};

class HashFamily {
 public:
  virtual ~HashFamily() = default;
  // Throws std::invalid_argument unless the parameters' sizes fit `num_blocks`, L and H.
  virtual void check(const HashParameterSizes& sizes, int64_t num_blocks, int64_t length, int64_t num_hashes) const = 0;
  // Writes a code for each of the tile's vectors. `scratch` holds scratch_floats(L, H) floats.
  virtual void codes(const Tile& tile, int64_t block, int64_t length, int64_t num_hashes,
                     const HashParameters& parameters, float* scratch, int64_t* codes) const = 0;
  virtual int64_t scratch_floats(int64_t length, int64_t num_hashes) const = 0;
  // Returns what hashes `vectors` rows of the block faster than transposing them into tiles would, or null if nothing
  // does.
  virtual std::unique_ptr<RowHasher> row_hasher(Allocator&, int64_t /*block*/, int64_t /*num_hashes*/,
                                                const HashParameters&, int64_t /*vectors*/) const {
    return nullptr;
  }
  // Returns what gives the same codes as `codes` faster if `vectors` vectors of the block are hashed, or null if
  // nothing does. It refers to the parameters.
  virtual std::unique_ptr<TileCoder> tile_coder(Allocator&, int64_t /*block*/, int64_t /*length*/,
                                                int64_t /*num_hashes*/, const HashParameters&,
                                                int64_t /*vectors*/) const {
    return nullptr;
  }
};

// Returns the family of that name; throws std::invalid_argument listing the known ones.
const HashFamily& find_hash_family(const std::string& name);

}  // namespace reuse
