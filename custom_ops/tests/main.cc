// Runs all tests; with arguments those whose names contain each of them, and none that has a minus before it. Names are
// printed beforehand, so that one that hangs or crashes is known.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>

#include "test.h"

namespace {

bool is_wanted(const char* name, const char* part) {
  const bool excludes = *part == '-';
  return (std::strstr(name, part + (excludes ? 1 : 0)) != nullptr) != excludes;
}

}  // namespace

int main(int argc, char** argv) {
  int passed = 0, failed = 0;
  for (const auto& test : reuse::testing::tests()) {
    const auto wants = [&](const char* part) { return is_wanted(test.name.c_str(), part); };
    if (!std::all_of(argv + 1, argv + argc, wants)) continue;
    std::printf("%s\n", test.name.c_str());
    std::fflush(stdout);
    try {
      test.body();
      ++passed;
    } catch (const std::exception& error) {
      ++failed;
      std::printf("FAILED %s: %s\n", test.name.c_str(), error.what());
    }
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 && passed > 0 ? 0 : 1;
}
