// Statistics and their C interface.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "reuse/capi.h"
#include "reuse/statistics_registry.h"
#include "reuse/text.h"
#include "test.h"

namespace reuse::testing {
namespace {

TEST(statistics_add_up_and_are_told_apart_by_session) {
  StatisticsRegistry& registry = StatisticsRegistry::instance();
  RunStatistics run;
  run.blocks = 2;
  run.rows = 10;
  run.clusters = 3;
  run.scratch_bytes = 100;
  registry.add("statistics_test", "say \"hi\"\n", "ReuseConv", run);
  run.scratch_bytes = 50;
  registry.add("statistics_test", "say \"hi\"\n", "ReuseConv", run);
  registry.add("another", "b", "Hash", run);

  const int64_t needed = reuse_statistics_json("statistics_test", nullptr, 0);
  std::vector<char> text(static_cast<size_t>(needed));
  EXPECT(reuse_statistics_json("statistics_test", text.data(), needed) == needed);
  const std::string json(text.data());
  EXPECT(static_cast<int64_t>(json.size()) + 1 == needed);
  EXPECT(json.find("\"node\":\"say \\\"hi\\\"\\u000a\"") != std::string::npos, << json);
  EXPECT(json.find("\"runs\":2,\"blocks\":2,\"rows\":20") != std::string::npos, << json);
  EXPECT(json.find("\"clusters\":6") != std::string::npos, << json);
  EXPECT(json.find("\"scratch_bytes\":100") != std::string::npos, << json);
  EXPECT(json.find("Hash") == std::string::npos, << json);
  EXPECT(json.find("\"op\":\"ReuseConv\",\"tf32\":null,\"runs\"") != std::string::npos, << json);

  char small[3];
  EXPECT(reuse_statistics_json("statistics_test", small, 3) == needed && std::string(small) == "[{");
  reuse_statistics_reset("statistics_test");
  EXPECT(registry.to_json("statistics_test").find("\"runs\":0") != std::string::npos);
  reuse_statistics_forget("statistics_test");
  EXPECT(registry.to_json("statistics_test") == "[]");
}

TEST(names_of_any_bytes_are_told_as_valid_json) {
  StatisticsRegistry registry;
  // Not UTF-8: a byte alone, a character cut short, a longer form of "/", half of a surrogate pair.
  for (const char* bytes : {"\xFF", "\xE2\x98", "\xC0\xAF", "\xED\xA0\x80"}) {
    registry.announce("s", bytes, "Hash");
    const std::string json = registry.to_json("s");
    EXPECT(utf8(json) == json && json.find("\xEF\xBF\xBD") != std::string::npos, << json);
    registry.forget("s");
  }
  registry.announce("s", std::string("a\0b", 3) + "\xE2\x98\x83\xF0\x9F\x98\x80", "Hash");
  EXPECT(registry.to_json("s").find("\"a\\u0000b\xE2\x98\x83\xF0\x9F\x98\x80\"") != std::string::npos);
}

TEST(whether_products_were_in_tf32_is_the_last_that_a_run_knew) {
  StatisticsRegistry registry;
  const auto shows = [&](const char* part) { return registry.to_json("s").find(part) != std::string::npos; };
  RunStatistics run;
  registry.add("s", "conv", "ReuseConv", run);
  EXPECT(shows("\"tf32\":null,"));
  run.tf32 = true;
  registry.add("s", "conv", "ReuseConv", run);
  EXPECT(shows("\"tf32\":true,"));
  run.tf32.reset();
  registry.add("s", "conv", "ReuseConv", run);
  EXPECT(shows("\"tf32\":true,"));
  run.tf32 = false;
  registry.add("s", "conv", "ReuseConv", run);
  registry.reset("s");
  EXPECT(shows("\"tf32\":false,\"runs\":0,"));
}

// A device that has counted what the test says.
class FakeCounts final : public DeviceCounts {
 public:
  NodeStatistics take() override { return std::exchange(fresh_, {}); }
  void count(int64_t runs, int64_t clusters) {
    fresh_.runs += runs;
    fresh_.total.clusters += clusters;
  }

 private:
  NodeStatistics fresh_;
};

TEST(counts_of_a_device_are_fetched_when_asked_for) {
  StatisticsRegistry& registry = StatisticsRegistry::instance();
  const auto counts = std::make_shared<FakeCounts>();
  const std::string session = "device_counts_test";
  registry.announce(session, "conv", "ReuseConv");
  registry.attach(session, "conv", counts);
  const auto shows = [&](const char* part) { return registry.to_json(session).find(part) != std::string::npos; };
  RunStatistics run;
  registry.add(session, "conv", "ReuseConv", run);
  counts->count(2, 7);
  EXPECT(shows("\"runs\":3") && shows("\"clusters\":7"));
  EXPECT(shows("\"runs\":3") && shows("\"clusters\":7"), << "counted twice");
  counts->count(1, 5);
  registry.reset(session);
  EXPECT(shows("\"runs\":0") && shows("\"clusters\":0"));
  counts->count(4, 9);
  registry.detach(session, "conv", counts);
  counts->count(1, 100);
  EXPECT(shows("\"runs\":4") && shows("\"clusters\":9"), << "the last counts, and no more");
  registry.forget(session);
}

}  // namespace
}  // namespace reuse::testing
