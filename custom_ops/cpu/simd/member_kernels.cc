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

// Sums of kParts times 8 elements of whole vectors. A vector waits for the one before it only if they are of the same
// cluster, and then all parts wait at once.
template <int64_t kParts>
REUSE_INLINE void add_parts(const float* values, int64_t stride, int64_t count, const int32_t* ids, double* sums,
                            int64_t width) {
  for (int64_t p = 0; p < count; ++p) {
    double* place = sums + ids[p] * width;
    Doubles total[kParts];
    for (int64_t i = 0; i < kParts; ++i) {
      total[i] = load_sums(place + 8 * i);
      add_eight(total[i], values + p * stride + 8 * i);
    }
    for (int64_t i = 0; i < kParts; ++i) store_sums(place + 8 * i, total[i]);
  }
}

REUSE_INLINE void divide_eight(const double* sums, double divisor, float* means) {
  const Doubles total = load_sums(sums);
  for (int64_t i = 0; i < 64 / kPartBytes; ++i) {
    const Singles single = __builtin_convertvector(total.part[i] / divisor, Singles);
    memcpy(means + i * kPartBytes / 8, &single, sizeof(single));
  }
}

// Puts elements begin ... begin + kLanes - 1 of each vector together from kPieces pieces that reach into them. Without
// `fresh`, what the rows hold there is kept where there is no piece.
template <int64_t kPieces>
REUSE_INLINE void copy_lanes(const Piece* pieces, int64_t begin, int64_t count, float* rows, int64_t stride,
                             bool fresh = true) {
  const float* from[kPieces + 1];
  int64_t step[kPieces + 1];
  Selection lanes[kPieces + 1];
  for (int64_t i = 0; i < kPieces; ++i) {
    from[i] = pieces[i].from + (begin - pieces[i].to);
    step[i] = pieces[i].step;
    lanes[i] = select_lanes(pieces[i].to - begin, pieces[i].to + pieces[i].count - begin);
  }
  for (int64_t p = 0; p < count; ++p) {
    float* to = rows + p * stride + begin;
    Lanes value = fresh ? Lanes{} : load(to);
    for (int64_t i = 0; i < kPieces; ++i) value = load_selected(value, from[i] + p * step[i], lanes[i]);
    store(to, value);
  }
}

// Vectors to fetch ahead: the processor does not foresee reads that skip the other strips' elements.
constexpr int64_t kAhead = 32;

template <typename ClusterSums>
REUSE_INLINE void add_row_strip(const float* values, int64_t stride, int64_t length, int64_t count, const int32_t* ids,
                                double* sums) {
  ClusterSums of_clusters(sums, ids[0]);
  // What ClusterSums reads of a vector: shorter ones are padded with zeros.
  const int64_t width = sum_width(length);
  if (length == width) {
    for (int64_t p = 0; p < count; ++p) {
      __builtin_prefetch(values + (p + kAhead) * stride);
      of_clusters.add(ids[p], values + p * stride);
    }
    return;
  }
  float own[kLanes] = {};
  for (int64_t p = 0; p < count; ++p) {
    for (int64_t l = 0; l < length; ++l) own[l] = values[p * stride + l];
    of_clusters.add(ids[p], own);
  }
}

// Transposes kLanes vectors, of which kElements elements are wanted and kLanes readable.
template <int64_t kElements>
REUSE_INLINE void transpose_square(const float* values, int64_t stride, float* out, int64_t out_stride) {
  Lanes square[kLanes];
  for (int64_t v = 0; v < kLanes; ++v) square[v] = load(values + v * stride);
  transpose(square);
  for (int64_t e = 0; e < kElements; ++e) store(out + e * out_stride, square[e]);
}

// The same for `elements` of up to kLanes vectors, of which no more need be readable unless they are `whole`.
void transpose_part(const float* values, int64_t stride, int64_t elements, int64_t vectors, bool whole, float* out,
                    int64_t out_stride) {
  Lanes square[kLanes];
  for (int64_t v = 0; v < kLanes; ++v) {
    const float* vector = values + v * stride;
    square[v] = whole ? load(vector) : v < vectors ? load_first(vector, elements) : Lanes{};
  }
  transpose(square);
  for (int64_t e = 0; e < elements; ++e) store(out + e * out_stride, square[e]);
}

}  // namespace

void add_rows(const float* values, int64_t stride, int64_t count, const int32_t* ids, double* sums, int64_t width) {
  int64_t l = 0;
  for (; l + 32 <= width; l += 32) add_parts<4>(values + l, stride, count, ids, sums + l, width);
  for (; l + 16 <= width; l += 16) add_parts<2>(values + l, stride, count, ids, sums + l, width);
  for (; l < width; l += 8) add_parts<1>(values + l, stride, count, ids, sums + l, width);
}

void write_means(const double* sums, int64_t width, const int32_t* members, int64_t clusters, int64_t length,
                 float* means, int64_t stride) {
  for (int64_t c = 0; c < clusters; ++c) {
    const double divisor = members[c];
    int64_t l = 0;
    for (; l + 8 <= length; l += 8) divide_eight(sums + c * width + l, divisor, means + c * stride + l);
    if (l < length) {
      float rest[8];
      divide_eight(sums + c * width + l, divisor, rest);
      memcpy(means + c * stride + l, rest, static_cast<size_t>(length - l) * sizeof(float));
    }
  }
}

void copy_pieces(const Piece* pieces, int64_t num_pieces, int64_t count, float* rows, int64_t stride) {
  for (int64_t begin = 0; begin < stride; begin += kLanes) {
    // Pieces that have elements among these.
    int64_t first = 0, last = num_pieces;
    while (first < last && pieces[first].to + pieces[first].count <= begin) ++first;
    while (last > first && pieces[last - 1].to >= begin + kLanes) --last;
    switch (last - first) {
      case 0:
        copy_lanes<0>(pieces, begin, count, rows, stride);
        break;
      case 1:
        copy_lanes<1>(pieces + first, begin, count, rows, stride);
        break;
      case 2:
        copy_lanes<2>(pieces + first, begin, count, rows, stride);
        break;
      case 3:
        copy_lanes<3>(pieces + first, begin, count, rows, stride);
        break;
      default:
        for (bool fresh = true; first < last; first += 2, fresh = false) {
          if (first + 1 < last) {
            copy_lanes<2>(pieces + first, begin, count, rows, stride, fresh);
          } else {
            copy_lanes<1>(pieces + first, begin, count, rows, stride, fresh);
          }
        }
    }
  }
}

void transpose_rows(const float* values, int64_t stride, int64_t length, int64_t count, int64_t readable, float* out,
                    int64_t out_stride) {
  for (int64_t l = 0; l < length; l += kLanes) {
    const int64_t elements = length - l < kLanes ? length - l : kLanes;
    for (int64_t p = 0; p < count; p += kLanes) {
      const float* from = values + p * stride + l;
      float* to = out + l * out_stride + p;
      // Whole vectors, whatever follows the elements, are much cheaper to load than parts.
      const bool whole = (p + kLanes - 1) * stride + l + kLanes <= readable;
      if (whole && elements == 8) {
        transpose_square<8>(from, stride, to, out_stride);
      } else if (whole && elements == kLanes) {
        transpose_square<kLanes>(from, stride, to, out_stride);
      } else {
        transpose_part(from, stride, elements, count - p, whole, to, out_stride);
      }
    }
  }
}

void add_strips(const float* values, int64_t stride, int64_t length, int64_t count, const int32_t* ids, double* sums) {
  if (count == 0) return;
  if (sum_width(length) == 8) {
    add_row_strip<RegisterSums>(values, stride, length, count, ids, sums);
  } else {
    add_row_strip<MemorySums>(values, stride, length, count, ids, sums);
  }
}

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
