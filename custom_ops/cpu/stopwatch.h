// Adds the lifetime of an object to a counter of nanoseconds.
#pragma once

#include <chrono>
#include <cstdint>

namespace reuse {

class Stopwatch {
 public:
  explicit Stopwatch(int64_t& total) : total_(total), start_(std::chrono::steady_clock::now()) {}
  ~Stopwatch() {
    const auto elapsed = std::chrono::steady_clock::now() - start_;
    total_ += std::chrono::duration_cast<std::chrono::nanoseconds>(elapsed).count();
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  int64_t& total_;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace reuse
