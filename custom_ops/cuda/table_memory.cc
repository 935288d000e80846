#include <cstdlib>

#include "reuse/cuda_operators.h"

namespace reuse::cuda {

int64_t table_memory() {
  constexpr int64_t kMebibyte = int64_t{1} << 20, kUsual = 512, kMost = int64_t{1} << 20;
  const char* text = std::getenv("REUSE_CUDA_TABLE_MIB");
  if (text == nullptr) return kUsual * kMebibyte;
  char* end = nullptr;
  const long long asked = std::strtoll(text, &end, 10);
  return (end != text && *end == '\0' && asked >= 1 && asked <= kMost ? asked : kUsual) * kMebibyte;
}

}  // namespace reuse::cuda
