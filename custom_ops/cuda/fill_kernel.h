// Setting memory to a value.
#pragma once

#include "execution.h"

namespace reuse::cuda {

template <typename T>
struct FillKernel {
  static constexpr int kThreads = 256;
  using Shared = NothingShared;
  static constexpr int64_t kPerThread = 8;

  T* target;
  int64_t count;
  T value;

  REUSE_BOTH int64_t blocks() const { return divide_up(count, kThreads * kPerThread); }
  REUSE_BOTH void run(const Group<kThreads>& group, Shared&) const {
    group.phase([&](int thread) {
      const int64_t first = group.block * kThreads * kPerThread + thread;
      for (int64_t i = 0; i < kPerThread; ++i) {
        if (first + i * kThreads < count) target[first + i * kThreads] = value;
      }
    });
  }
};

template <typename Launcher, typename T>
void fill(Launcher& launcher, T* target, int64_t count, T value) {
  const FillKernel<T> kernel{target, count, value};
  launcher.launch(kernel, kernel.blocks());
}

}  // namespace reuse::cuda
