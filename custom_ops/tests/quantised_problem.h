// Problems of quantised convolutions, drawn at random, and runs of them.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "reuse/quantised.h"
#include "support.h"

namespace reuse::testing {

using Bytes = std::vector<uint8_t>;

struct QuantisedProblem {
  ConvAttributes conv;
  Scope scope = Scope::kBatch;
  int64_t batch = 1, height = 1, width = 1;
  QuantisedOperands operands{};  // weights and bias are those of the vectors below
  bool has_bias = true;
  Bytes x, w;
  std::vector<int32_t> bias;

  QuantisedPlan plan(Allocator& allocator) const {
    QuantisedOperands own = operands;
    own.weights.values = w.data();
    own.bias = has_bias ? bias.data() : nullptr;
    return QuantisedPlan(allocator, conv, scope, own);
  }
};

inline int32_t value_of(uint8_t byte, bool is_signed) { return is_signed ? static_cast<int8_t>(byte) : byte; }

template <typename T>
T of_channel(const std::vector<T>& values, size_t channel) {
  return values[values.size() == 1 ? 0 : channel];
}

class Draw {
 public:
  explicit Draw(std::mt19937& random) : random_(random) {}
  int64_t operator()(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(random_); }
  bool coin() { return (*this)(0, 1) == 1; }
  Bytes bytes(int64_t count) {
    Bytes values(static_cast<size_t>(count));
    for (uint8_t& value : values) value = static_cast<uint8_t>((*this)(0, 255));
    return values;
  }
  int32_t zero_point(bool is_signed) {
    const int64_t offsets[] = {0, 255, 127, 128, 7};
    return static_cast<int32_t>(offsets[(*this)(0, 4)]) - (is_signed ? 128 : 0);
  }

 private:
  std::mt19937& random_;
};

QuantisedProblem random_quantised(std::mt19937& random);

// One image with the weights, types and scales that the seed draws.
QuantisedProblem problem_of(ConvAttributes conv, int64_t in_channels, int64_t height, int64_t width,
                            int64_t out_channels, uint32_t seed);

ConvGeometry geometry_of(const QuantisedProblem& p);

void run(const QuantisedProblem& p, const QuantisedPlan& plan, PoisonedAllocator& memory, int64_t threads, Bytes& y,
         RunStatistics* statistics = nullptr, ReuseState* state = nullptr);
Bytes run(const QuantisedProblem& p, int64_t threads, RunStatistics* statistics = nullptr, ReuseState* state = nullptr);

}  // namespace reuse::testing
