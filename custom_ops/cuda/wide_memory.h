// Memory accesses of 16 bytes at once, and copies into shared memory that go on while their thread computes.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#include <cuda_pipeline_primitives.h>
#endif

#include "execution.h"

namespace reuse::cuda {

// Memory that only aligned pointers may point to, which the host's sanitizers check.
template <int kBytes>
struct alignas(kBytes) AlignedBytes {
  unsigned char bytes[kBytes];
};

template <int kBytes>
REUSE_BOTH void copy_aligned(void* to, const void* from) {
  *static_cast<AlignedBytes<kBytes>*>(to) = *static_cast<const AlignedBytes<kBytes>*>(from);
}

// 16 bytes in registers.
struct Words {
  uint32_t values[4];
};

REUSE_BOTH inline Words load_16(const void* from) {
#ifdef __CUDA_ARCH__
  const uint4 loaded = *static_cast<const uint4*>(from);
  return {{loaded.x, loaded.y, loaded.z, loaded.w}};
#else
  AlignedBytes<16> bytes;
  copy_aligned<16>(&bytes, from);
  Words words;
  std::memcpy(&words, &bytes, sizeof words);
  return words;
#endif
}

REUSE_BOTH inline void store_16(void* to, const Words& words) {
#ifdef __CUDA_ARCH__
  *static_cast<uint4*>(to) = make_uint4(words.values[0], words.values[1], words.values[2], words.values[3]);
#else
  AlignedBytes<16> bytes;
  std::memcpy(&bytes, &words, sizeof words);
  copy_aligned<16>(to, &bytes);
#endif
}

// Whether rows of `stride` elements begin at multiples of 16 bytes and consist of whole ones.
template <typename T>
REUSE_BOTH bool has_whole_rows(const T* first, int64_t stride) {
  return reinterpret_cast<uintptr_t>(first) % 16 == 0 && stride * static_cast<int64_t>(sizeof(T)) % 16 == 0;
}

// A thread's copies from global to shared memory (cp.async of sm_80 and later). Nobody may read what is being copied,
// or write there, before wait(); others than the thread itself only after the end of the phase in which it waited.
class AsyncCopies {
 public:
  // The host copies at once or, if `late`, when it waits: a result must depend on neither.
  REUSE_BOTH explicit AsyncCopies(bool late) {
#ifdef __CUDA_ARCH__
    (void)late;
#else
    late_ = late;
#endif
  }
  AsyncCopies(const AsyncCopies&) = delete;
  AsyncCopies& operator=(const AsyncCopies&) = delete;

  // Copies 4 or 16 bytes; both pointers are multiples of that.
  template <int kBytes>
  REUSE_BOTH void start(void* shared, const void* global) {
    static_assert(kBytes == 4 || kBytes == 16, "These are the sizes that the host knows.");
#ifdef __CUDA_ARCH__
    __pipeline_memcpy_async(shared, global, kBytes);
#else
    if (late_ && count_ < kMost) {
      waiting_[count_++] = {shared, global, kBytes};
    } else {
      copy_aligned<kBytes>(shared, global);
    }
#endif
  }

  // Waits for all that was started.
  REUSE_BOTH void wait() {
#ifdef __CUDA_ARCH__
    __pipeline_commit();
    __pipeline_wait_prior(0);
#else
    for (int i = 0; i < count_; ++i) {
      const Copy& copy = waiting_[i];
      if (copy.bytes == 16) {
        copy_aligned<16>(copy.shared, copy.global);
      } else {
        copy_aligned<4>(copy.shared, copy.global);
      }
    }
    count_ = 0;
#endif
  }

#ifndef __CUDA_ARCH__
 private:
  struct Copy {
    void* shared;
    const void* global;
    int bytes;
  };

  static constexpr int kMost = 64;  // more are made at once
  bool late_;
  int count_ = 0;
  Copy waiting_[kMost];
#endif
};

}  // namespace reuse::cuda
