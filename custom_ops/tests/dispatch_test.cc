// The choice of an instruction set.
#include <cstring>
#include <stdexcept>

#include "../cpu/simd/kernels.h"
#include "reuse/isa.h"
#include "test.h"

namespace reuse::testing {
namespace {

using simd::choose_kernels;

constexpr uint32_t kAll = 0xFFFFFFFF;

TEST(a_table_is_chosen_only_with_all_extensions_that_it_was_compiled_for) {
  for (const char* name : {"avx2", "avx512"}) {
    const simd::Kernels& table = choose_kernels(name, kAll);
    if (std::strcmp(table.name, name) != 0) continue;  // not a build for x86
    EXPECT((table.extensions & simd::kAvx2) != 0 && (table.extensions & simd::kFma) != 0);
    for (uint32_t bit = 1; bit != 0; bit <<= 1) {
      if ((table.extensions & bit) == 0) continue;
      EXPECT(&choose_kernels(name, kAll & ~bit) != &table, << name << " without extension " << bit);
      EXPECT(&choose_kernels(nullptr, kAll & ~bit) != &table, << name << " without extension " << bit);
    }
  }
  EXPECT(choose_kernels("baseline", kAll).extensions == 0);
  EXPECT(std::strcmp(choose_kernels(nullptr, 0).name, "baseline") == 0);
}

TEST(unknown_instruction_sets_are_refused) {
  expect_throw<std::invalid_argument>("set it to baseline, avx2 or avx512", [] { choose_kernels("AVX2", kAll); });
  EXPECT(&choose_kernels("", kAll) == &choose_kernels(nullptr, kAll));
  EXPECT(std::strcmp(instruction_set(), simd::kernels().name) == 0);
}

}  // namespace
}  // namespace reuse::testing
