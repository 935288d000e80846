// Products of two tiles in shared memory: float32 on CUDA cores, TF32 and float16 on tensor cores.
#pragma once

#include "numbers.h"
#include "wide_memory.h"

namespace reuse::cuda {

// A product's tile: 128 centroids by 64 columns. The width of a table is taps * 64 wherever a group has 64 output
// channels or more (576 for 3x3, 64 for patches, 1600 for 5x5), so 64 columns waste none of it, where 128 would waste
// 10%, 50% and 4%. Four warps have it, so that a thread has 64 sums: 16 values from shared memory for 64 products.
constexpr int32_t kProductRows = 128, kProductColumns = 64;
constexpr int kProductThreads = 128;

// A row of the tile of sums in shared memory: multiples of 16 bytes, and rows side by side begin in different banks.
constexpr int32_t kSumsStride = kProductColumns + 4;

// A slice of the depth of both operands: 64 bytes of each centroid. Rows are multiples of 16 bytes, so that they can be
// copied whole, and rows that a warp reads together lie in different banks: those of `a` begin 24 (float16: 20) banks
// apart, those of `b` 4.
template <typename Operand>
struct ProductTiles {
  static constexpr int kDepth = 64 / sizeof(Operand);
  alignas(16) Operand a[kProductRows][kDepth + 8];
  alignas(16) Operand b[kDepth][kProductColumns + 16 / sizeof(Operand)];
};

// Float32s that one access brings.
template <int kCount>
struct alignas(4 * kCount) Floats {
  float values[kCount];

  REUSE_BOTH static Floats& at(float* first) { return *reinterpret_cast<Floats*>(first); }
  REUSE_BOTH static const Floats& at(const float* first) { return *reinterpret_cast<const Floats*>(first); }
};

// Float32 products and sums on CUDA cores. A warp has 32 rows and all columns: 4x8 threads with 8x8 sums each. Their
// numbers alternate between columns and rows, so that threads 2n and 2n + 1 read the same 16 bytes of `a`, and threads
// n and n + 2 the same of `b`: then shared memory serves 16 threads at a time where it else serves 8.
struct StrictProduct {
  using Operand = float;
  using Tiles = ProductTiles<float>;
  static constexpr int kOwnRows = 8, kOwnFours = 2;
  struct Sums {
    float values[kOwnRows][kOwnFours][4];
  };

  REUSE_BOTH static void multiply(const Tiles& tiles, int thread, Sums& sums) {
    const int row = first_row(thread), column = first_column(thread);
    // Two elements of the depth at a time: with more, the compiler runs out of registers.
    REUSE_NO_UNROLL
    for (int first = 0; first < Tiles::kDepth; first += 2) {
      Floats<2> a[kOwnRows];
      REUSE_UNROLL
      for (int i = 0; i < kOwnRows; ++i) a[i] = Floats<2>::at(&tiles.a[row + i * kRowStep][first]);
      REUSE_UNROLL
      for (int k = 0; k < 2; ++k) {
        REUSE_UNROLL
        for (int f = 0; f < kOwnFours; ++f) {
          const auto b = Floats<4>::at(&tiles.b[first + k][column + f * kColumnStep]);
          REUSE_UNROLL
          for (int i = 0; i < kOwnRows; ++i) {
            REUSE_UNROLL
            for (int j = 0; j < 4; ++j) sums.values[i][f][j] += a[i].values[k] * b.values[j];
          }
        }
      }
    }
  }
  REUSE_BOTH static void put_out(const Sums& sums, int thread, float (*out)[kSumsStride]) {
    const int row = first_row(thread), column = first_column(thread);
    REUSE_UNROLL
    for (int i = 0; i < kOwnRows; ++i) {
      REUSE_UNROLL
      for (int f = 0; f < kOwnFours; ++f) {
        auto& target = Floats<4>::at(&out[row + i * kRowStep][column + f * kColumnStep]);
        REUSE_UNROLL
        for (int j = 0; j < 4; ++j) target.values[j] = sums.values[i][f][j];
      }
    }
  }

 private:
  static constexpr int kRowStep = 4, kColumnStep = kProductColumns / kOwnFours;

  REUSE_BOTH static int first_row(int thread) { return thread / 32 * kOwnRows * kRowStep + thread / 2 % 4; }
  REUSE_BOTH static int first_column(int thread) { return (thread % 2 + thread / 8 % 4 * 2) * 4; }
};

// Products on tensor cores, sums in float32: TF32 for Operand float, float16 for Half. A warp has 64 rows and 32
// columns: 4x4 products of 16x8, of which a thread has the sums of two rows and two columns each. (The instructions are
// used directly, as loads of nvcuda::wmma do not know that tiles are in shared memory.)
template <typename OperandType>
struct TensorProduct {
  using Operand = OperandType;
  using Tiles = ProductTiles<Operand>;
  static constexpr int kOwnRows = 4, kOwnColumns = 4;  // of products
  struct Sums {
    float values[kOwnRows][kOwnColumns][4];  // row, row; row + 8, row + 8
  };

  REUSE_BOTH static void multiply(const Tiles& tiles, int thread, Sums& sums) {
#ifdef __CUDA_ARCH__
    // Edges of tiles may have parted the warp, which must load and multiply as one.
    __syncwarp();
    REUSE_NO_UNROLL
    for (int k = 0; k < Tiles::kDepth; k += kStep) {
      uint32_t a[kOwnRows][4], b[kOwnColumns][2];
      load(tiles, thread, k, a, b);
      REUSE_UNROLL
      for (int i = 0; i < kOwnRows; ++i) {
        REUSE_UNROLL
        for (int j = 0; j < kOwnColumns; ++j) multiply(a[i], b[j], sums.values[i][j], Operand{});
      }
    }
#else
    for (int i = 0; i < kOwnRows * kOwnColumns * 4; ++i) {
      const int row = warp_row(thread) + i / 16 * 16 + i / 2 % 2 * 8 + thread % 32 / 4;
      const int column = warp_column(thread) + i / 4 % 4 * 8 + thread % 4 * 2 + i % 2;
      float& sum = sums.values[i / 16][i / 4 % 4][i % 4];
      for (int k = 0; k < Tiles::kDepth; ++k) sum += as_operand(tiles.a[row][k]) * as_operand(tiles.b[k][column]);
    }
#endif
  }
  REUSE_BOTH static void put_out(const Sums& sums, int thread, float (*out)[kSumsStride]) {
    const int row = warp_row(thread) + thread % 32 / 4, column = warp_column(thread) + thread % 4 * 2;
    REUSE_UNROLL
    for (int i = 0; i < kOwnRows * 2; ++i) {
      REUSE_UNROLL
      for (int j = 0; j < kOwnColumns; ++j) {
        auto& target = Floats<2>::at(&out[row + i * 8][column + j * 8]);
        target.values[0] = sums.values[i / 2][j][i % 2 * 2];
        target.values[1] = sums.values[i / 2][j][i % 2 * 2 + 1];
      }
    }
  }

 private:
  REUSE_BOTH static int warp_row(int thread) { return thread / 64 * 64; }
  REUSE_BOTH static int warp_column(int thread) { return thread / 32 % 2 * 32; }

  // What tensor cores are given of an operand.
  REUSE_BOTH static float as_operand(float value) { return round_to_tf32(value); }
  REUSE_BOTH static float as_operand(Half value) { return to_float(value); }

#ifdef __CUDA_ARCH__
  static constexpr int kStep = 32 / sizeof(Operand);  // depth of one instruction

  // PTX's fragments of m16n8k8: thread t of a group of four has elements t and t + 4 of the depth. Which ones these are
  // is for us to say, if `a` and `b` agree: here 2t and 2t + 1, so that `a` comes in pairs.
  __device__ static void load(const ProductTiles<float>& tiles, int thread, int k, uint32_t (&a)[kOwnRows][4],
                              uint32_t (&b)[kOwnColumns][2]) {
    const int row = warp_row(thread) + thread % 32 / 4, column = warp_column(thread) + thread % 32 / 4;
    k += thread % 4 * 2;
    REUSE_UNROLL
    for (int i = 0; i < kOwnRows * 2; ++i) {
      const auto pair = Floats<2>::at(&tiles.a[row + i * 8][k]);
      a[i / 2][i % 2] = bits_of(round_to_tf32(pair.values[0]));
      a[i / 2][i % 2 + 2] = bits_of(round_to_tf32(pair.values[1]));
    }
    REUSE_UNROLL
    for (int j = 0; j < kOwnColumns; ++j) {
      b[j][0] = bits_of(round_to_tf32(tiles.b[k][column + j * 8]));
      b[j][1] = bits_of(round_to_tf32(tiles.b[k + 1][column + j * 8]));
    }
  }
  __device__ static void multiply(const uint32_t (&a)[4], const uint32_t (&b)[2], float (&sums)[4], float) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }

  // PTX's fragments of m16n8k16, which are four and two squares of 8x8 as ldmatrix brings them: thread n says where row
  // n % 8 of square n / 8 is. Those of `b` are turned, as it has rows where the instruction wants columns.
  __device__ static void load(const ProductTiles<Half>& tiles, int thread, int k, uint32_t (&a)[kOwnRows][4],
                              uint32_t (&b)[kOwnColumns][2]) {
    const int down = thread % 16, across = thread / 16 % 2 * 8;
    REUSE_UNROLL
    for (int i = 0; i < kOwnRows; ++i) {
      const auto* from = &tiles.a[warp_row(thread) + i * 16 + down][k + across];
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                   : "=r"(a[i][0]), "=r"(a[i][1]), "=r"(a[i][2]), "=r"(a[i][3])
                   : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(from)))
                   : "memory");
    }
    REUSE_UNROLL
    for (int j = 0; j < kOwnColumns; j += 2) {
      const auto* from = &tiles.b[k + down][warp_column(thread) + j * 8 + across];
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                   : "=r"(b[j][0]), "=r"(b[j][1]), "=r"(b[j + 1][0]), "=r"(b[j + 1][1])
                   : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(from)))
                   : "memory");
    }
  }
  __device__ static void multiply(const uint32_t (&a)[4], const uint32_t (&b)[2], float (&sums)[4], Half) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
#endif
};

}  // namespace reuse::cuda
