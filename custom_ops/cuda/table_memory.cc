#include "reuse/cuda_operators.h"
#include "reuse/environment.h"

namespace reuse::cuda {

int64_t table_memory() {
  constexpr int64_t kMebibyte = int64_t{1} << 20, kUsual = 512, kMost = int64_t{1} << 20;
  return environment_number("REUSE_CUDA_TABLE_MIB", 1, kMost).value_or(kUsual) * kMebibyte;
}

}  // namespace reuse::cuda
