// Sums of the members of clusters.
#include "lanes.h"
#include "table_kernels.h"

namespace reuse {
namespace simd {
namespace REUSE_TARGET {
namespace {

// Eight sums, and the singles that are added to a register of them.
struct Doubles {
  typedef double Part __attribute__((vector_size(kPartBytes)));
  Part part[64 / kPartBytes];
};
typedef float Singles __attribute__((vector_size(kPartBytes / 2)));

REUSE_INLINE Doubles load_sums(const double* from) {
  Doubles value;
  for (int64_t i = 0; i < 64 / kPartBytes; ++i)
    memcpy(&value.part[i], from + i * kPartBytes / 8, sizeof(Doubles::Part));
  return value;
}
REUSE_INLINE void store_sums(double* to, const Doubles& value) {
  for (int64_t i = 0; i < 64 / kPartBytes; ++i) memcpy(to + i * kPartBytes / 8, &value.part[i], sizeof(Doubles::Part));
}

REUSE_INLINE void add_eight(Doubles& total, const float* values) {
  for (int64_t i = 0; i < 64 / kPartBytes; ++i) {
    Singles single;
    memcpy(&single, values + i * kPartBytes / 8, sizeof(single));
    total.part[i] += __builtin_convertvector(single, Doubles::Part);
  }
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
  REUSE_INLINE void read() { total_ = load_sums(sums_ + id_ * 8); }
  REUSE_INLINE void write() const { store_sums(sums_ + id_ * 8, total_); }

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
      Doubles total = load_sums(place);
      add_eight(total, values + 8 * part);
      store_sums(place, total);
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
