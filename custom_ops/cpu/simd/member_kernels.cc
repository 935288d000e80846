// Sums of the members of clusters.
#include "lanes.h"
#include "table_kernels.h"

namespace reuse {
namespace simd {
namespace REUSE_TARGET {
namespace {

typedef double Doubles __attribute__((vector_size(8 * sizeof(double)), aligned(8)));
typedef float HalfLanes __attribute__((vector_size(8 * sizeof(float)), aligned(4)));

// Adds 8 neighbouring elements of one vector to its cluster's sums.
REUSE_INLINE void add_eight(double* sums, const float* values) {
  HalfLanes single;
  Doubles total;
  memcpy(&single, values, sizeof(single));
  memcpy(&total, sums, sizeof(total));
  total += __builtin_convertvector(single, Doubles);
  memcpy(sums, &total, sizeof(total));
}

}  // namespace

void add_members(const float* values, int64_t stride, int64_t length, int64_t count, const int32_t* ids, double* sums) {
  const int64_t width = sum_width(length);
  for (int64_t p = 0; p < count; p += kLanes) {
    const int64_t vectors = count - p < kLanes ? count - p : kLanes;
    Lanes square[kLanes];
    for (int64_t l = 0; l < kLanes; ++l) {
      const float* row = values + l * stride + p;
      square[l] = l >= length ? Lanes{} : vectors == kLanes ? load(row) : load_first(row, vectors);
    }
    transpose(square);
    for (int64_t v = 0; v < vectors; ++v) {
      float own[kLanes];
      store(own, square[v]);
      double* target = sums + ids[p + v] * width;
      add_eight(target, own);
      if (width > 8) add_eight(target + 8, own + 8);
    }
  }
}

}  // namespace REUSE_TARGET
}  // namespace simd
}  // namespace reuse
