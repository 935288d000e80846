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
  for (int32_t id = 0; id < 5000; ++id) {
    // Few distinct low bits, so that slots collide.
    const int64_t code = static_cast<int64_t>(random() & 0xFFFF0000000000FFull);
    const auto found = known.find(code);
    EXPECT(table.find(code) == (found == known.end() ? -1 : found->second));
    if (found == known.end()) {
      table.insert(code, id);
      known[code] = id;
    }
  }
  for (const auto& [code, id] : known) EXPECT(table.find(code) == id);
  table.reset();
  for (const auto& [code, id] : known) EXPECT(table.find(code) == -1);
}

// With a multiplier that is known, these codes would all be looked for from the same slot on.
TEST(codes_that_are_made_to_collide_do_not) {
  constexpr uint64_t kKnown = 0x9E3779B97F4A7C15ull;
  uint64_t inverse = kKnown;
  for (int i = 0; i < 6; ++i) inverse *= 2 - kKnown * inverse;
  PoisonedAllocator allocator;
  for (const uint64_t key : {uint64_t{0xD1342543DE82EF95ull}, slot_key()}) {
    ClusterTable one_product(allocator, key), two_products(allocator, key), high_bits(allocator, key);
    for (int32_t id = 0; id < 20000; ++id) {
      // The bits that choose a slot are the product's from the 32nd on.
      const uint64_t product = (static_cast<uint64_t>(id) << 48 ^ static_cast<uint64_t>(id)) & 0xFFFF00000000FFFFull;
      const uint64_t folded = product * inverse, first = folded ^ (folded >> 32);
      one_product.insert(static_cast<int64_t>(first), id);
      two_products.insert(static_cast<int64_t>(first * inverse), id);
      high_bits.insert(static_cast<int64_t>(static_cast<uint64_t>(id) << 40 | uint64_t{1} << 20), id);
    }
    EXPECT(one_product.longest_search() < 1000, << one_product.longest_search());
    EXPECT(two_products.longest_search() < 1000, << two_products.longest_search());
    EXPECT(high_bits.longest_search() < 1000, << high_bits.longest_search());
  }
  ClusterTable known(allocator, kKnown);
  for (int32_t id = 0; id < 2000; ++id) {
    const uint64_t product = static_cast<uint64_t>(id) << 48;
    const uint64_t folded = product * inverse, first = folded ^ (folded >> 32);
    known.insert(static_cast<int64_t>(first * inverse), id);
  }
  EXPECT(known.longest_search() > 1000, << known.longest_search());
}

}  // namespace
}  // namespace reuse::testing
