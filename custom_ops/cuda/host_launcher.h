// Runs kernels on the host, block after block: the same code as on a GPU, without the launches.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "execution.h"
#include "reuse/cuda_operators.h"

namespace reuse::cuda {

class HostLauncher {
 public:
  // Of blocks of threads; a result must not depend on it.
  enum class Order { kForwards, kBackwards, kShuffled };

  explicit HostLauncher(Order order) : order_(order) {}

  template <typename Kernel>
  void launch(const Kernel& kernel, int64_t blocks) {
    std::vector<int64_t> turns(static_cast<size_t>(blocks));
    std::iota(turns.begin(), turns.end(), int64_t{0});
    if (order_ == Order::kBackwards) std::reverse(turns.begin(), turns.end());
    if (order_ == Order::kShuffled) std::shuffle(turns.begin(), turns.end(), random_);
    const auto shared = std::make_unique<typename Kernel::Shared>();
    for (const int64_t block : turns) {
      // A block finds its shared memory as others left it.
      std::memset(static_cast<void*>(shared.get()), 0xA5, sizeof *shared);
      kernel.run(Group<Kernel::kThreads>{block, blocks, order_ == Order::kBackwards}, *shared);
    }
  }

  void begin_stage(Stage) {}
  void end_stages() {}
  int64_t multiprocessors() const { return 1; }

 private:
  Order order_;
  std::mt19937 random_{7};
};

}  // namespace reuse::cuda
