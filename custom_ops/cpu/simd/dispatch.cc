// Chooses the instruction set, once per process.
#include <cstdlib>
#include <string>
#ifdef REUSE_HAVE_X86_TARGETS
#include <cpuid.h>
#endif

#include "kernels.h"
#include "reuse/environment.h"
#include "reuse/isa.h"

namespace reuse {
namespace simd {

// The tables that there are for processors of this kind, best first, and their names. All can run the last one.
#if defined(REUSE_HAVE_X86_TARGETS)
namespace avx512 {
extern const Kernels kKernels;
}
namespace vnni {
void multiply_bytes(const ByteProduct& product, int32_t* out, int64_t out_stride);
}
namespace avx2 {
extern const Kernels kKernels;
}
namespace baseline {
extern const Kernels kKernels;
}
static const Kernels* const kTables[] = {&avx512::kKernels, &avx2::kKernels, &baseline::kKernels};
constexpr char kNames[] = "baseline, avx2 or avx512";
#elif defined(__aarch64__)
namespace neon {
extern const Kernels kKernels;
}
static const Kernels* const kTables[] = {&neon::kKernels};
constexpr char kNames[] = "neon";
#else
namespace baseline {
extern const Kernels kKernels;
}
static const Kernels* const kTables[] = {&baseline::kKernels};
constexpr char kNames[] = "baseline";
#endif

uint32_t machine_extensions() {
  uint32_t found = 0;
#ifdef REUSE_HAVE_X86_TARGETS
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2")) found |= kAvx2;
  if (__builtin_cpu_supports("fma")) found |= kFma;
  if (__builtin_cpu_supports("avx512f")) found |= kAvx512F;
  if (__builtin_cpu_supports("avx512bw")) found |= kAvx512Bw;
  if (__builtin_cpu_supports("avx512dq")) found |= kAvx512Dq;
  if (__builtin_cpu_supports("avx512vl")) found |= kAvx512Vl;
  if (__builtin_cpu_supports("avx512vnni")) found |= kAvx512Vnni;
  // Not every compiler knows this one by name. That the system saves its registers is told by the others.
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  constexpr uint32_t kF16cBit = 1u << 29;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & kF16cBit) != 0) found |= kF16c;
#endif
  return found;
}

const Kernels& choose_kernels(const char* wanted, uint32_t extensions) {
  const std::string name = wanted == nullptr ? "" : wanted;
  const Kernels* last = nullptr;
  bool is_known = name.empty();
  for (const Kernels* table : kTables) {
    const bool has_all = (table->extensions & ~extensions) == 0;
    if (has_all && (name.empty() || name == table->name)) return *table;
    is_known = is_known || name == table->name;
    last = table;
  }
  if (!is_known) refuse_environment("REUSE_ISA", wanted, kNames);
  return *last;
}

const Kernels& kernels() {
  static const Kernels& chosen = choose_kernels(std::getenv("REUSE_ISA"), machine_extensions());
  return chosen;
}

MultiplyBytes multiply_bytes() {
#ifdef REUSE_HAVE_X86_TARGETS
  static const bool has_vnni = (machine_extensions() & kAvx512Vnni) != 0;
  if (has_vnni && &kernels() == &avx512::kKernels) return vnni::multiply_bytes;
#endif
  return kernels().multiply_bytes;
}

}  // namespace simd

const char* instruction_set() { return simd::kernels().name; }

}  // namespace reuse
