// The interface of a hash family; one file each under cpu/hash/. The Python twin is reuse_compiler/reuse/families.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

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
};

// How many elements each parameter has; for checking before the pointers are used.
struct HashParameterSizes {
  int64_t projections = -1, thresholds = -1, coordinates = -1;  // -1: absent
};

// Codes of vectors that are given as rows.
class RowEncoder {
 public:
  virtual ~RowEncoder() = default;
  virtual void codes(const Rows& rows, int64_t block, int64_t* codes) const = 0;
};

// A layer's hash with all that its parameters can be prepared for: vectors to codes. It refers to nothing of its
// maker's.
class Encoder {
 public:
  virtual ~Encoder() = default;
  // Writes the code of each of the tile's vectors. `scratch` holds scratch_floats() floats. Returns true only if all
  // elements are finite, false also where nobody looked.
  virtual bool codes(const Tile& tile, int64_t block, float* scratch, int64_t* codes) const = 0;
  virtual int64_t scratch_floats() const { return 0; }
  // Writes codes below 256 as bytes, or below 65536 as 16 bits. Returns whether all elements of the tile's vectors are
  // finite.
  virtual bool narrow_codes(const Tile& tile, int64_t block, float* scratch, uint8_t* codes) const;
  virtual bool narrow_codes(const Tile& tile, int64_t block, float* scratch, uint16_t* codes) const;
  // Returns what gives the same codes faster than rows could be brought into tiles, or null if nothing does.
  virtual const RowEncoder* by_rows() const { return nullptr; }
};

// How many blocks parameters are of, and L and H.
struct HashShape {
  int64_t num_blocks, length, num_hashes;
};

class HashFamily {
 public:
  virtual ~HashFamily() = default;
  virtual const char* name() const = 0;
  // Whether only equal vectors are to share a cluster: equal codes are a hint that members are then compared by.
  virtual bool is_lossless() const { return false; }
  // The largest H, or 0 if H means nothing.
  virtual int64_t max_hashes() const { return 64; }
  // The parameters that must be given, and those that may be.
  virtual HashParameterSizes required(const HashShape& shape) const = 0;
  virtual HashParameterSizes optional(const HashShape&) const { return {}; }
  // Prepares parameters whose sizes fit. Throws std::invalid_argument for values that make no sense.
  virtual std::unique_ptr<Encoder> encoder(Allocator& allocator, const HashParameters& parameters,
                                           const HashShape& shape) const = 0;

  // Throws std::invalid_argument unless H and the parameters' sizes fit.
  void check(const HashParameterSizes& sizes, const HashShape& shape) const;
};

// Throws std::invalid_argument unless all split coordinates, which index a vector's elements, are within `length`.
void check_coordinates(const int32_t* coordinates, int64_t count, int64_t length);

const std::vector<const HashFamily*>& hash_families();
// Returns the family of that name; throws std::invalid_argument listing the known ones.
const HashFamily& find_hash_family(const std::string& name);

}  // namespace reuse
