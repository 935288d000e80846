// What kernels are written in: phases of a block of threads with a barrier after each, and atomic operations. A kernel
// runs on a GPU, or thread after thread and block after block on the host: tests on machines without a GPU run the same
// code, all but the launches (host_launcher.h, device_launcher.h).
//
// A kernel is a struct of operands with
//   kThreads                       threads of a block
//   kResident                      optional: blocks that a multiprocessor shall have registers for at once
//   struct Shared                  shared memory of a block; trivial
//   run(group, shared)             the block's work, as calls of group.phase(body) where body(thread) is one thread's
// Code between phases is run by every thread on a GPU and once on the host: it may read operands that the kernel does
// not write, and must leave shared memory alone. What a thread keeps from one phase to the next is a PerThread.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define REUSE_BOTH __host__ __device__
#define REUSE_UNROLL _Pragma("unroll")
#define REUSE_UNROLL_8 _Pragma("unroll 8")
#define REUSE_NO_UNROLL _Pragma("unroll 1")
#else
#define REUSE_BOTH
#define REUSE_UNROLL
#define REUSE_UNROLL_8
#define REUSE_NO_UNROLL
#endif

namespace reuse::cuda {

// The threads of one block.
template <int kThreads>
struct Group {
  int64_t block, blocks;  // index of this block, and how many there are
  bool backwards;         // on the host: last thread first, to find out if threads of a phase depend on each other

  template <typename Body>
  REUSE_BOTH void phase(const Body& body) const {
#ifdef __CUDA_ARCH__
    body(static_cast<int>(threadIdx.x));
    __syncthreads();
#else
    for (int i = 0; i < kThreads; ++i) body(backwards ? kThreads - 1 - i : i);
#endif
  }
};

// A variable of each thread that lives through several phases.
template <typename T, int kThreads>
class PerThread {
 public:
#ifdef __CUDA_ARCH__
  REUSE_BOTH T& operator[](int) { return own_; }

 private:
  T own_;
#else
  REUSE_BOTH T& operator[](int thread) { return all_[thread]; }

 private:
  T all_[kThreads];
#endif
};

struct NothingShared {};

template <typename T>
REUSE_BOTH constexpr T smaller(T a, T b) {
  return b < a ? b : a;
}
template <typename T>
REUSE_BOTH constexpr T larger(T a, T b) {
  return a < b ? b : a;
}
template <typename T>
REUSE_BOTH constexpr T divide_up(T value, T by) {
  return (value + by - 1) / by;
}

// Each returns what was there before.
template <typename T>  // int32_t, uint32_t or int64_t
REUSE_BOTH T atomic_add(T* target, T value) {
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(T) == sizeof(int64_t)) {
    return static_cast<T>(
        atomicAdd(reinterpret_cast<unsigned long long*>(target), static_cast<unsigned long long>(value)));
  } else {
    return atomicAdd(target, value);
  }
#else
  const T before = *target;
  *target += value;
  return before;
#endif
}

REUSE_BOTH inline int32_t atomic_min(int32_t* target, int32_t value) {
#ifdef __CUDA_ARCH__
  return atomicMin(target, value);
#else
  const int32_t before = *target;
  *target = smaller(before, value);
  return before;
#endif
}

REUSE_BOTH inline uint32_t atomic_max(uint32_t* target, uint32_t value) {
#ifdef __CUDA_ARCH__
  return atomicMax(target, value);
#else
  const uint32_t before = *target;
  *target = larger(before, value);
  return before;
#endif
}

REUSE_BOTH inline int32_t atomic_exchange_if(int32_t* target, int32_t expected, int32_t value) {
#ifdef __CUDA_ARCH__
  return atomicCAS(target, expected, value);
#else
  const int32_t before = *target;
  if (before == expected) *target = value;
  return before;
#endif
}

// A read of what other blocks are changing: any of the values that were there will do.
REUSE_BOTH inline int32_t read_shared_by_blocks(const int32_t* source) {
  return *const_cast<const volatile int32_t*>(source);
}

}  // namespace reuse::cuda
