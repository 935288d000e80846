// Sums of the members of clusters.
#include "lanes.h"
#include "table_kernels.h"

namespace reuse {
namespace simd {
namespace REUSE_TARGET {
namespace {

typedef double Doubles __attribute__((vector_size(8 * sizeof(double)), aligned(8)));
typedef float HalfLanes __attribute__((vector_size(8 * sizeof(float)), aligned(4)));

REUSE_INLINE void add_eight(Doubles& total, const float* values) {
  HalfLanes single;
  memcpy(&single, values, sizeof(single));
  total += __builtin_convertvector(single, Doubles);
}

// Sums of strips of up to 8 elements. Blocks of such short vectors have few clusters, and neighbours are often members
// of the same: its sums stay in a register, where they wait for no memory.
class RegisterSums {
 public:
  REUSE_INLINE RegisterSums(double* sums, int32_t first) : sums_(sums), id_(first) { read(); }
  REUSE_INLINE ~RegisterSums() { write(); }

  REUSE_INLINE void add(int32_t id, const float* values) {
    if (id != id_) {
      write();
      id_ = id;
      read();
    }
    add_eight(total_, values);
  }

 private:
  REUSE_INLINE void read() { memcpy(&total_, sums_ + id_ * 8, sizeof(total_)); }
  REUSE_INLINE void write() const { memcpy(sums_ + id_ * 8, &total_, sizeof(total_)); }

  double* sums_;
  int64_t id_;
  Doubles total_;
};

// Sums of strips of kMemberStrip elements, whose clusters change too often for a register.
class MemorySums {
 public:
  REUSE_INLINE MemorySums(double* sums, int32_t) : sums_(sums) {}

  REUSE_INLINE void add(int64_t id, const float* values) {
    for (int64_t part = 0; part < 2; ++part) {
      double* place = sums_ + id * kMemberStrip + 8 * part;
      Doubles total;
      memcpy(&total, place, sizeof(total));
      add_eight(total, values + 8 * part);
      memcpy(place, &total, sizeof(total));
    }
  }

 private:
  double* sums_;
};

template <typename ClusterSums>
REUSE_INLINE void add_strip(const float* values, int64_t stride, int64_t length, int64_t count, const int32_t* ids,
                            double* sums) {
  ClusterSums of_clusters(sums, ids[0]);
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
      of_clusters.add(ids[p + v], own);
    }
  }
}

}  // namespace

void add_members(const float* values, int64_t stride, int64_t length, int64_t count, const int32_t* ids, double* sums) {
  if (count == 0) return;
  if (sum_width(length) == 8) {
    add_strip<RegisterSums>(values, stride, length, count, ids, sums);
  } else {
    add_strip<MemorySums>(values, stride, length, count, ids, sums);
  }
}

}  // namespace REUSE_TARGET
}  // namespace simd
}  // namespace reuse
