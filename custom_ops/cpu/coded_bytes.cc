#include "coded_bytes.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "byte_hash.h"
#include "byte_weights.h"
#include "reuse/checked.h"
#include "reuse/static_entries.h"
#include "simd/kernels.h"
#include "stopwatch.h"

namespace reuse {
namespace {

constexpr int32_t kHalf = 128;
constexpr int32_t kNoStart[simd::kLanes] = {};

// So many bytes are summed up in 32 bits, and so many products of bytes.
constexpr int64_t kMostVectors = int64_t{1} << 24, kLongest = int64_t{1} << 15;

// No sum of products exceeds this.
constexpr float kLargestSum = 0x1p60f;

// Centroids whose products stay in the L1 cache until they are entries.
constexpr int64_t kCentroidsAtOnce = 12;

// sums[l] += values[l] ^ flip.
void add_bytes(const uint8_t* values, int64_t length, uint8_t flip, uint32_t* sums) {
  constexpr int64_t kAtOnce = 8;  // a number that compilers know
  int64_t l = 0;
  for (; l + kAtOnce <= length; l += kAtOnce) {
    for (int64_t i = 0; i < kAtOnce; ++i) sums[l + i] += values[l + i] ^ flip;
  }
  for (; l < length; ++l) sums[l] += values[l] ^ flip;
}

// The quotient to the nearest integer, ties to even. A double is near enough to tell a tie, and adding such a number
// rounds it.
uint8_t rounded_quotient(uint32_t sum, double members) {
  constexpr double kWholeNumbers = 0x1.8p52;
  return static_cast<uint8_t>(static_cast<double>(sum) / members + kWholeNumbers - kWholeNumbers);
}

// The product of rows with a block's weights for some channels, a tap at a time: [rows, taps, stride].
void multiply_taps(const ByteWeights& weights, int64_t block, int64_t taps, int64_t channel, int64_t channels,
                   const uint8_t* const* rows, int64_t count, const int32_t* zero_points, const int32_t* starts,
                   int64_t tap_starts, int32_t* products, int64_t stride) {
  const simd::MultiplyBytes multiply_bytes = simd::multiply_bytes();
  for (int64_t tap = 0; tap < taps; ++tap) {
    const simd::ByteProduct product{rows,
                                    count,
                                    1,
                                    weights.row_bytes(),
                                    weights.strip(block, tap, channel),
                                    0,
                                    weights.strip_bytes(),
                                    channels / simd::kLanes,
                                    starts == nullptr ? kNoStart : starts + tap * tap_starts,
                                    starts == nullptr ? 0 : simd::kLanes};
    multiply_bytes(product, products + tap * stride, taps * stride);
    if (zero_points == nullptr) continue;
    simd::kernels().subtract_zero_points(product, zero_points + channel, channels, products + tap * stride,
                                         taps * stride);
  }
}

}  // namespace

CodedBytePlan::CodedBytePlan(Allocator& allocator, const QuantisedOperands& operands, const CodedByteOperands& given)
    : attributes_(given.conv), scope_(given.scope), num_codes_(given.hash.given_clusters()) {
  check_scales(operands);
  checked::require(scope_ == Scope::kBatch || scope_ == Scope::kImage, "scope must be batch, image or static");
  attributes_.input_order = attributes_.output_order = DataOrder::kNhwc;
  attributes_.check();
  checked::require(attributes_.sub_vector_length <= kLongest,
                   "sub_vector_length is above 2^15, and 32 bits do not hold the products");
  any_size_ = Blocking::of_any_size(attributes_, operands.in_channels, operands.out_channels);
  check_static_sums(any_size_);
  weights_ = std::make_shared<const ByteWeights>(allocator, any_size_, operands);
  const HashShape shape{any_size_.num_blocks(), any_size_.sub_vector_length(), given.hash.num_hashes};
  std::shared_ptr<const Encoder> encoder =
      make_encoder(allocator, given.hash, shape.num_blocks, shape.length, given.parameters, given.parameter_sizes);
  hash_ =
      std::make_shared<const ByteHash>(allocator, std::move(encoder), given.hash, given.parameters, shape, operands);
  output_ = std::make_shared<const ByteOutput>(operands, nullptr);
  for (int64_t m = 0; m < operands.out_channels; ++m) {
    product_scales_.push_back(operands.x_scale * of_channel(operands.w_scales, m));
    checked::require(
        std::isfinite(product_scales_.back() * kLargestSum),
        "x_scale * w_scale is so large that sums stand for infinities in output channel " + std::to_string(m));
  }
  find_starts(static_cast<uint8_t>(operands.x_zero_point + (operands.x_signed ? kHalf : 0)));
}

// Products of zero points, to be taken from others.
void CodedBytePlan::find_starts(uint8_t zero_point) {
  const int64_t taps = any_size_.taps_per_block(), channels = weights_->channels();
  starts_.resize(static_cast<size_t>(any_size_.num_blocks() * taps * channels));
  std::vector<uint8_t> row(static_cast<size_t>(weights_->row_bytes()));
  const uint8_t* const rows = row.data();
  for (int64_t block = 0; block < any_size_.num_blocks(); ++block) {
    std::fill_n(row.begin(), any_size_.block_length(block), zero_point);
    std::fill(row.begin() + any_size_.block_length(block), row.end(), uint8_t{0});
    multiply_taps(*weights_, block, taps, 0, channels, &rows, 1, weights_->zero_points(any_size_.group_of(block)),
                  nullptr, 0, starts_.data() + block * taps * channels, channels);
  }
  for (int32_t& start : starts_) start = -start;
}

Blocking CodedBytePlan::blocking(int64_t batch, int64_t height, int64_t width) const {
  const ConvGeometry& g = any_size_.geometry;
  return Blocking::make(ConvGeometry::make(attributes_, batch, g.in_channels, height, width, g.out_channels));
}

const int32_t* CodedBytePlan::start(int64_t block, int64_t tap, int64_t channel) const {
  return starts_.data() + (block * any_size_.taps_per_block() + tap) * weights_->channels() + channel;
}

CodedByteTables::CodedByteTables(const CodedBytePlan& plan, const Blocking& blocking, Workspace& workspace)
    : plan_(plan),
      blocking_(blocking),
      taps_(blocking.taps_per_block()),
      num_tiles_((blocking.geometry.group_out_channels() + tile_channels() - 1) / tile_channels()),
      codes_(workspace, static_cast<size_t>(blocking.num_blocks() * blocking.vectors)) {
  checked::require(blocking.vectors <= kMostVectors, "a block has more than 2^24 vectors, whose sums exceed 32 bits");
  for (int64_t b = 0; b < blocking.num_blocks(); ++b) clusters_.emplace_back(workspace);
  scales_.resize(channel_index(blocking.geometry.attributes.group, 0), 0.0f);
  inverses_.resize(scales_.size(), 0.0f);
}

void CodedByteTables::represent(Workspace& workspace, const uint8_t* x) {
  {
    Stopwatch watch(workspace.statistics.cluster_ns);
    workspace.parallel.run(blocking_.num_blocks(), [&](int64_t block) {
      Buffer<int32_t> ids(workspace, static_cast<size_t>(rows()));
      number(block, ids);
      average(workspace, block, ids, x);
    });
  }
  Stopwatch watch(workspace.statistics.gemm_ns);
  find_scales(workspace);
}

int64_t CodedByteTables::clusters() const {
  int64_t count = 0;
  for (const CodedClusters& block : clusters_) count += block.count();
  return count;
}

int64_t CodedByteTables::tile_size(int64_t tile) const {
  return std::min(tile_channels(), blocking_.geometry.group_out_channels() - tile * tile_channels());
}

// Finds the codes that vectors of a block have, and the cluster of each code.
void CodedByteTables::number(int64_t block, Buffer<int32_t>& ids) {
  std::fill_n(ids.data(), ids.size(), -1);
  CodedClusters& own = clusters_[static_cast<size_t>(block)];
  const uint16_t* const codes = codes_.data() + block * blocking_.vectors;
  for (int64_t v = 0; v < blocking_.vectors; ++v) {
    int32_t& id = ids[codes[v]];
    if (id >= 0) continue;
    id = static_cast<int32_t>(own.count());
    own.codes.resize(own.codes.size() + 1);
    own.codes[own.codes.size() - 1] = codes[v];
  }
}

void CodedByteTables::average(Allocator& allocator, int64_t block, const Buffer<int32_t>& ids, const uint8_t* x) {
  CodedClusters& own = clusters_[static_cast<size_t>(block)];
  const int64_t length = blocking_.block_length(block), row_bytes = plan_.weights().row_bytes();
  Buffer<uint32_t> sums(allocator, static_cast<size_t>(own.count() * length)),
      members(allocator, static_cast<size_t>(own.count()));
  std::fill_n(sums.data(), sums.size(), uint32_t{0});
  std::fill_n(members.data(), members.size(), uint32_t{0});
  const simd::ByteVectors vectors = plan_.hash().vectors(blocking_, x, block, 0, blocking_.vectors);
  const uint16_t* const codes = codes_.data() + block * blocking_.vectors;
  for (int64_t v = 0; v < vectors.count; ++v) {
    const int32_t id = ids[codes[v]];
    ++members[static_cast<size_t>(id)];
    add_bytes(vectors.values + v * vectors.stride, length, vectors.flip, sums.data() + id * length);
  }
  own.centroids.resize(static_cast<size_t>(own.count() * row_bytes));
  std::memset(own.centroids.data(), 0, own.centroids.size());
  for (int64_t c = 0; c < own.count(); ++c) {
    const auto count = static_cast<double>(members[static_cast<size_t>(c)]);
    for (int64_t l = 0; l < length; ++l) {
      own.centroids[static_cast<size_t>(c * row_bytes + l)] =
          rounded_quotient(sums[static_cast<size_t>(c * length + l)], count);
    }
  }
}

template <typename Take>
void CodedByteTables::multiply(Allocator& allocator, int64_t block, int64_t tile, const Take& take) const {
  const CodedClusters& own = clusters_[static_cast<size_t>(block)];
  const ByteWeights& weights = plan_.weights();
  const int64_t channel = tile * tile_channels(), channels = std::min(tile_channels(), weights.channels() - channel);
  const int64_t width = taps_ * tile_channels();
  Buffer<int32_t> products(allocator, static_cast<size_t>(kCentroidsAtOnce * width));
  if (channels < tile_channels()) std::fill_n(products.data(), products.size(), 0);
  const uint8_t* centroids[kCentroidsAtOnce];
  for (int64_t first = 0; first < own.count(); first += kCentroidsAtOnce) {
    const int64_t count = std::min(kCentroidsAtOnce, own.count() - first);
    for (int64_t c = 0; c < count; ++c) centroids[c] = own.centroids.data() + (first + c) * weights.row_bytes();
    multiply_taps(weights, block, taps_, channel, channels, centroids, count,
                  weights.zero_points(blocking_.group_of(block)), plan_.start(block, 0, channel), weights.channels(),
                  products.data(), tile_channels());
    take(first, count, products.data());
  }
}

void CodedByteTables::find_scales(Workspace& workspace) {
  const int64_t blocks = blocking_.num_blocks(), width = taps_ * tile_channels();
  Buffer<double> sums(workspace, static_cast<size_t>(blocks * num_tiles_ * tile_channels()));
  workspace.parallel.run(blocks * num_tiles_, [&](int64_t task) {
    Buffer<float> largest(workspace, static_cast<size_t>(width));
    std::fill_n(largest.data(), largest.size(), 0.0f);
    multiply(workspace, task / num_tiles_, task % num_tiles_, [&](int64_t, int64_t count, const int32_t* products) {
      simd::kernels().keep_largest(products, count, width, largest.data());
    });
    for (int64_t c = 0; c < tile_channels(); ++c) {
      sums[static_cast<size_t>(task * tile_channels() + c)] =
          largest_tap_sum(blocking_, largest.data() + c, tile_channels());
    }
  });
  const int64_t per_group = blocking_.blocks_per_group, own = blocking_.geometry.group_out_channels();
  for (int64_t group = 0; group < blocking_.geometry.attributes.group; ++group) {
    for (int64_t m = 0; m < own; ++m) {
      double most = 0.0;
      for (int64_t b = group * per_group; b < (group + 1) * per_group; ++b) {
        most = std::max(most, sums[static_cast<size_t>(b * num_tiles_ * tile_channels() + m)]);
      }
      const StaticScale found = static_scale(most);
      const size_t index = channel_index(group, 0) + static_cast<size_t>(m);
      scales_[index] = found.scale * plan_.product_scale(group * own + m);
      inverses_[index] = found.inverse;
    }
  }
}

void CodedByteTables::write(Allocator& allocator, int64_t block, int64_t tile, uint8_t* rows) const {
  const CodedClusters& own = clusters_[static_cast<size_t>(block)];
  const simd::Kernels& kernels = simd::kernels();
  const int64_t width = taps_ * tile_channels(), columns = blocking_.tap_columns();
  const float* const inverse = inverses_.data() + channel_index(blocking_.group_of(block), tile);
  multiply(allocator, block, tile, [&](int64_t first, int64_t count, const int32_t* products) {
    for (int64_t c = 0; c < count; ++c) {
      uint8_t* const row = rows + own.codes[static_cast<size_t>(first + c)] * row_bytes();
      kernels.write_entries(products + c * width, taps_, columns, inverse, row);
    }
  });
  Buffer<int32_t> zeros(allocator, static_cast<size_t>(width));
  std::fill_n(zeros.data(), zeros.size(), 0);
  kernels.write_entries(zeros.data(), taps_, columns, inverse, rows + this->rows() * row_bytes());
}

}  // namespace reuse
