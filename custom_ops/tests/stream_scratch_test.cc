// Scratch memory of streams, and who waits for whom; memory that nodes of equal content share.
#include "../ort/stream_scratch.h"

#include <atomic>
#include <cstdlib>
#include <future>
#include <optional>
#include <thread>
#include <vector>

#include "../ort/static_memory.h"
#include "support.h"
#include "test.h"

namespace reuse::testing {
namespace {

class CountingHeap final : public Allocator {
 public:
  void* allocate(size_t bytes) override {
    if (refuses) throw std::bad_alloc();
    ++held;
    return ::operator new(bytes);
  }
  void release(void* memory, size_t) noexcept override {
    --held;
    ::operator delete(memory);
  }
  std::atomic<int> held{0};
  bool refuses = false;
};

char g_streams[8];  // their addresses are streams

TEST(leases_of_two_streams_do_not_exclude_each_other) {
  ort::StreamScratch scratch;
  const auto heap = std::make_shared<CountingHeap>();
  const auto first = scratch.lease(0, &g_streams[0], heap, 16);
  void* other = nullptr;
  std::thread([&] { other = scratch.lease(0, &g_streams[1], heap, 16).data(); }).join();
  EXPECT(other != nullptr && other != first.data());
  // A stream of that name on another device is another stream.
  std::thread([&] { other = scratch.lease(1, &g_streams[0], heap, 16).data(); }).join();
  EXPECT(other != first.data());
}

TEST(leases_of_one_stream_exclude_each_other) {
  ort::StreamScratch scratch;
  const auto heap = std::make_shared<CountingHeap>();
  std::optional<ort::StreamScratch::Lease> first(scratch.lease(0, &g_streams[0], heap, 16));
  std::promise<void> about_to_ask;
  std::atomic<bool> ended{false};
  bool had_ended = false;
  std::thread second([&] {
    about_to_ask.set_value();
    const auto lease = scratch.lease(0, &g_streams[0], heap, 16);
    had_ended = ended;
  });
  about_to_ask.get_future().wait();
  for (int i = 0; i < 1000; ++i) std::this_thread::yield();
  ended = true;
  first.reset();
  second.join();
  EXPECT(had_ended);
}

TEST(threads_that_share_streams_never_hold_the_same_memory_at_once) {
  constexpr int kStreams = 3, kThreads = 6, kLeases = 500;
  const auto heap = std::make_shared<CountingHeap>();
  std::atomic<int> clashes{0};
  {
    ort::StreamScratch scratch;
    std::atomic<int> holders[kStreams] = {};
    Threads(kThreads).run(kThreads, [&](int64_t t) {
      for (int i = 0; i < kLeases; ++i) {
        const int64_t stream = (t + i) % kStreams, bytes = i / 10 + 1;
        const auto lease = scratch.lease(0, &g_streams[stream], heap, static_cast<size_t>(bytes));
        if (holders[stream].fetch_add(1) != 0) ++clashes;
        *static_cast<char*>(lease.data()) = static_cast<char>(t);
        holders[stream].fetch_sub(1);
      }
    });
  }
  EXPECT(clashes == 0);
  EXPECT(heap->held == 0);
}

TEST(memory_that_a_stream_has_outgrown_stays) {
  const auto heap = std::make_shared<CountingHeap>();
  {
    ort::StreamScratch scratch;
    void* const small = scratch.lease(0, &g_streams[0], heap, 16).data();
    EXPECT(scratch.lease(0, &g_streams[0], heap, 8).data() == small);
    void* const large = scratch.lease(0, &g_streams[0], heap, 17).data();
    EXPECT(large != small && heap->held == 2);
    EXPECT(scratch.lease(0, &g_streams[0], heap, 32).data() == large, << "it doubles");
    heap->refuses = true;
    expect_throw<std::bad_alloc>("", [&] { scratch.lease(0, &g_streams[0], heap, 1000); });
    EXPECT(scratch.lease(0, &g_streams[0], heap, 32).data() == large, << "the lock is free, the memory is there");
  }
  EXPECT(heap->held == 0);
}

TEST(nodes_of_equal_content_share_memory_until_the_last_is_gone) {
  ort::StaticMemories memories;
  const auto heap = std::make_shared<CountingHeap>();
  int made = 0;
  const auto make = [&] {
    ++made;
    return std::make_shared<const cuda::DeviceMemory>(heap, 16);
  };
  auto first = memories.get("a", make), second = memories.get("a", make);
  EXPECT(first == second && made == 1);
  EXPECT(memories.get("b", make) != first && made == 2);
  EXPECT(heap->held == 1, << "nobody keeps what is of other content");
  first.reset();
  EXPECT(memories.get("a", make) == second && made == 2);
  second.reset();
  EXPECT(heap->held == 0);
  EXPECT(memories.get("a", make) != nullptr && made == 3);
}

}  // namespace
}  // namespace reuse::testing
