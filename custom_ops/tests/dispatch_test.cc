// The choice of an instruction set.
#include <cstring>
#include <iterator>
#include <stdexcept>

#include "../cpu/simd/kernels.h"
#include "reuse/isa.h"
#include "test.h"

namespace reuse::testing {
namespace {

using simd::choose_kernels;

constexpr uint32_t kAll = 0xFFFFFFFF;

// Those of this kind of processor, best first; all machines of its kind have the last one.
#if defined(__x86_64__)
constexpr const char* kNames[] = {"avx512", "avx2", "baseline"};
constexpr const char* kForeign = "neon";
constexpr const char* kListed = "set it to baseline, avx2 or avx512";
#elif defined(__aarch64__)
constexpr const char* kNames[] = {"neon"};
constexpr const char* kForeign = "avx2";
constexpr const char* kListed = "set it to neon, or";
#else
constexpr const char* kNames[] = {"baseline"};
constexpr const char* kForeign = "neon";
constexpr const char* kListed = "set it to baseline, or";
#endif

TEST(a_table_is_chosen_only_with_all_extensions_that_it_was_compiled_for) {
  for (const char* name : kNames) {
    const simd::Kernels& table = choose_kernels(name, kAll);
    EXPECT(std::strcmp(table.name, name) == 0);
    constexpr uint32_t kLeast = simd::kAvx2 | simd::kFma;
    EXPECT(std::strncmp(name, "avx", 3) != 0 || (table.extensions & kLeast) == kLeast);
    for (uint32_t bit = 1; bit != 0; bit <<= 1) {
      if ((table.extensions & bit) == 0) continue;
      EXPECT(&choose_kernels(name, kAll & ~bit) != &table, << name << " without extension " << bit);
      EXPECT(&choose_kernels(nullptr, kAll & ~bit) != &table, << name << " without extension " << bit);
    }
  }
  const char* every = *(std::end(kNames) - 1);
  EXPECT(choose_kernels(every, kAll).extensions == 0);
  EXPECT(std::strcmp(choose_kernels(nullptr, 0).name, every) == 0);
  EXPECT(std::strcmp(choose_kernels(nullptr, kAll).name, kNames[0]) == 0);
}

TEST(unknown_instruction_sets_are_refused) {
  for (const char* name : {"AVX2", kForeign}) {
    expect_throw<std::invalid_argument>(kListed, [&] { choose_kernels(name, kAll); });
  }
  EXPECT(&choose_kernels("", kAll) == &choose_kernels(nullptr, kAll));
  EXPECT(std::strcmp(instruction_set(), simd::kernels().name) == 0);
}

}  // namespace
}  // namespace reuse::testing
