// Chooses the instruction set, once per process.
#include <cstdlib>
#include <cstring>

#include "kernels.h"

namespace reuse {
namespace simd {

namespace baseline {
extern const Kernels kKernels;
}
#ifdef REUSE_HAVE_X86_TARGETS
namespace avx2 {
extern const Kernels kKernels;
}
namespace avx512 {
extern const Kernels kKernels;
}
#endif

namespace {

const Kernels& choose() {
  const char* forced = std::getenv("REUSE_ISA");
  const auto allowed = [forced](const char* name) {
    return forced == nullptr || *forced == '\0' || std::strcmp(forced, name) == 0;
  };
#ifdef REUSE_HAVE_X86_TARGETS
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (has_avx512 && allowed("avx512")) return avx512::kKernels;
  if (has_avx2 && allowed("avx2")) return avx2::kKernels;
#else
  (void)allowed;
#endif
  return baseline::kKernels;
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

}  // namespace simd
}  // namespace reuse
