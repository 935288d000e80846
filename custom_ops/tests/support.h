// Memory, threads and random convolutions for the tests.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "reuse/plan.h"
#include "reuse/pool.h"

namespace reuse::testing {

// Arrays for a kernel to write, filled with what would show as NaN, or as ids and codes of -1.
template <typename T>
std::vector<T> poisoned(int64_t count) {
  std::vector<T> values(static_cast<size_t>(count));
  if (count > 0) std::memset(static_cast<void*>(values.data()), 0xFF, values.size() * sizeof(T));
  return values;
}

// Memory filled with NaN, so that reading what nobody wrote spoils a result; counts what is not given back.
class PoisonedAllocator final : public Allocator {
 public:
  void* allocate(size_t bytes) override {
    void* memory = std::malloc(bytes);
    if (memory == nullptr && bytes > 0) throw std::bad_alloc();
    if (bytes > 0) std::memset(memory, 0xFF, bytes);
    held_ += static_cast<int64_t>(bytes);
    return memory;
  }
  void release(void* memory, size_t bytes) noexcept override {
    held_ -= static_cast<int64_t>(bytes);
    std::free(memory);
  }
  int64_t held() const { return held_.load(); }

 private:
  std::atomic<int64_t> held_{0};
};

// Memory that is used up after some allocations.
class ShortMemory final : public Allocator {
 public:
  explicit ShortMemory(int64_t allocations) : left_(allocations) {}
  void* allocate(size_t bytes) override {
    if (left_-- <= 0) throw std::bad_alloc();
    return source_.allocate(bytes);
  }
  void release(void* memory, size_t bytes) noexcept override { source_.release(memory, bytes); }

 private:
  PoisonedAllocator source_;
  std::atomic<int64_t> left_;
};

// As many threads as asked for, each taking every n-th task from the end: an order that ONNX Runtime would not choose.
class Threads final : public Parallel {
 public:
  explicit Threads(int64_t threads) : threads_(threads) {}
  void run(int64_t count, const std::function<void(int64_t)>& body) override {
    std::vector<std::thread> pool;
    pool.reserve(static_cast<size_t>(threads_));
    for (int64_t t = 0; t < threads_; ++t) {
      pool.emplace_back([&, t] {
        for (int64_t i = count - 1 - t; i >= 0; i -= threads_) body(i);
      });
    }
    for (std::thread& thread : pool) thread.join();
  }

 private:
  int64_t threads_;
};

// A convolution with reuse settings and data.
struct Problem {
  Blocking blocking;
  HashAttributes hash;
  ClusterAttributes cluster;
  GatherAttributes gather;
  TableType table = TableType::kFloat;
  bool keep_tables = true;
  std::vector<float> x, w, bias, projections, thresholds, centroids;  // the last for scope static
  std::vector<int32_t> coordinates;

  HashParameters parameters() const;
  HashParameterSizes sizes() const;
  std::unique_ptr<Encoder> encoder(Allocator& allocator) const;
  ReusePlan plan(Allocator& allocator) const;
};

// The name of one of the families, drawn so that nothing else goes by the same remainder of the seed.
const char* family_of(int64_t seed);

// Draws what the problem's family needs, and what it may be given at times.
void draw_parameters(std::mt19937& random, Problem& problem);

// Draws a legal problem.
Problem random_problem(std::mt19937& random, const char* family);

// Gives a problem the clusters of scope static.
void make_static(std::mt19937& random, Problem& problem, TableType table);

// A 3x3 convolution in the channel layout, of images of 9x11 pixels.
Problem channel_problem(std::mt19937& random, const char* family, int64_t length, int64_t channels = 48,
                        int64_t num_hashes = 5, int64_t out_channels = 40, int64_t batch = 2);

// Draws a delta for every element of the output.
std::vector<float> random_deltas(std::mt19937& random, const ConvGeometry& geometry);

// Draws legal attributes of operator Pool.
PoolAttributes random_pool_attributes(std::mt19937& random);

// The convolution in float64, with bias and activation.
std::vector<float> dense(const Problem& problem);

// Each image's [outer, inner] as [inner, outer].
std::vector<float> reordered(const std::vector<float>& values, int64_t batch, int64_t outer, int64_t inner);

// ReuseConv (from and to NCHW whatever the orders of its attributes), and the four staged operators one after the
// other.
std::vector<float> run_fused(const Problem& problem, int64_t threads, RunStatistics* statistics = nullptr);
std::vector<float> run_staged(const Problem& problem, int64_t threads);

// A run of a plan made before. `state`: of scope session, else null.
std::vector<float> run_fused(const ReusePlan& plan, ReuseState* state, const Problem& problem, int64_t threads = 1,
                             RunStatistics* statistics = nullptr);

bool same_bits(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace reuse::testing
