// The hash table from codes to clusters.
#include "../cpu/cluster_table.h"

#include <map>

#include "support.h"
#include "test.h"

namespace reuse::testing {
namespace {

TEST(table_finds_what_was_inserted_and_nothing_else) {
  PoisonedAllocator allocator;
  ClusterTable table(allocator);
  std::mt19937_64 random(7);
  std::map<int64_t, int32_t> known;
  const auto any = [](int32_t) { return true; };
  for (int32_t id = 0; id < 5000; ++id) {
    // Few distinct low bits, so that slots collide.
    const int64_t code = static_cast<int64_t>(random() & 0xFFFF0000000000FFull);
    const auto found = known.find(code);
    EXPECT(table.find(code, any) == (found == known.end() ? -1 : found->second));
    if (found == known.end()) {
      table.insert(code, id);
      known[code] = id;
    }
  }
  for (const auto& [code, id] : known) EXPECT(table.find(code, any) == id);
  table.reset();
  for (const auto& [code, id] : known) EXPECT(table.find(code, any) == -1);
}

TEST(table_holds_clusters_of_equal_code_apart) {
  PoisonedAllocator allocator;
  ClusterTable table(allocator);
  table.insert(5, 0);
  table.insert(5, 1);
  EXPECT(table.find(5, [](int32_t id) { return id == 1; }) == 1);
  EXPECT(table.find(5, [](int32_t) { return false; }) == -1);
}

}  // namespace
}  // namespace reuse::testing
