// Static tables are computed once per process and content. Products round every product and sum, in the order of the
// elements, so that tables have the same bits on every machine.
#include "static_tables.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>

#include "reuse/arena.h"
#include "reuse/static_entries.h"
#include "reuse/workers.h"
#include "simd/kernels.h"

namespace reuse {
namespace {

constexpr int64_t kCentroidsAtOnce = 8;
constexpr float kToInteger =
    0x1.8p23f;  // added and taken away again, it rounds small numbers to integers, ties to even

int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

auto shape_of(const StaticOperands& o) {
  const ConvAttributes& a = o.any_size.geometry.attributes;
  return std::make_tuple(a.kernel_h, a.kernel_w, a.group, a.layout, a.sub_vector_length,
                         o.any_size.geometry.in_channels, o.any_size.geometry.out_channels, o.table, o.keep,
                         o.clusters);
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Where channel c of a tile is found among the int8 entries of a tap, and whether that is the low byte of a word.
int64_t byte_of(int64_t channel) { return channel % simd::kLanes * 4 + channel / simd::kLanes; }
bool has_low_byte(int64_t channel) { return channel / simd::kLanes % 2 == 0; }

// Runs the tasks on as many threads as there are processors.
void in_parallel(int64_t tasks, const std::function<void(int64_t)>& body) {
  SharedWorkers(std::max<int64_t>(1, std::thread::hardware_concurrency())).run(tasks, body);
}

}  // namespace

bool StaticOperands::operator==(const StaticOperands& other) const {
  return shape_of(*this) == shape_of(other) && same_bits(weights, other.weights) &&
         same_bits(centroids, other.centroids);
}

std::shared_ptr<const StaticTables> StaticTables::of(StaticOperands operands) {
  // Never destroyed: sessions may end after static objects do.
  static std::mutex& mutex = *new std::mutex;
  static auto& known = *new std::vector<std::weak_ptr<const StaticTables>>;
  const std::lock_guard<std::mutex> lock(mutex);
  known.erase(std::remove_if(known.begin(), known.end(), [](const auto& tables) { return tables.expired(); }),
              known.end());
  for (const auto& weak : known) {
    const std::shared_ptr<const StaticTables> tables = weak.lock();
    if (tables && tables->operands() == operands) return tables;
  }
  auto fresh = std::make_shared<const StaticTables>(std::move(operands));
  known.push_back(fresh);
  return fresh;
}

StaticTables::StaticTables(StaticOperands operands)
    : operands_(std::move(operands)), taps_(operands_.any_size.taps_per_block()), tables_(memory_) {
  check();
  const int64_t channels = operands_.any_size.geometry.group_out_channels();
  const bool narrow = operands_.table == TableType::kFloat && channels < simd::kStaticChannels;
  tile_channels_ = narrow ? round_up(channels, simd::kLanes) : simd::kStaticChannels;
  num_tiles_ = (channels + tile_channels_ - 1) / tile_channels_;
  if (operands_.table == TableType::kInt8) find_scales();
  if (!operands_.keep) return;
  tables_.resize(static_cast<size_t>(bytes()));
  in_parallel(operands_.any_size.num_blocks() * num_tiles_, [&](int64_t task) {
    const int64_t block = task / num_tiles_, tile = task % num_tiles_;
    write(memory_, block, tile, const_cast<uint8_t*>(kept(block, tile)));
  });
}

void StaticTables::check() const {
  for (const float value : operands_.centroids) {
    if (!std::isfinite(value)) throw std::invalid_argument("centroids hold a value that is not finite");
  }
  if (operands_.table == TableType::kInt8) check_static_sums(operands_.any_size);
}

int64_t StaticTables::tile_size(int64_t tile) const {
  return std::min(tile_channels_, operands_.any_size.geometry.group_out_channels() - tile * tile_channels_);
}

const uint8_t* StaticTables::kept(int64_t block, int64_t tile) const {
  if (!operands_.keep) return nullptr;
  const int64_t group = operands_.any_size.group_of(block), per_group = operands_.any_size.blocks_per_group;
  return tables_.data() + ((group * num_tiles_ + tile) * per_group + block % per_group) * block_bytes();
}

const float* StaticTables::scale(int64_t group, int64_t tile) const {
  return scales_.empty() ? nullptr : scales_.data() + channel_index(group, tile);
}

// The weights of a block and tile as columns [length, width], the column of tap t and channel c being
// t * tile_channels + c, and memory for kCentroidsAtOnce centroids and their products.
struct StaticTables::Panel {
  Panel(Arena& arena, const StaticTables& tables)
      : width(round_up(tables.taps_ * tables.tile_channels_, 2 * simd::kLanes)),
        columns(arena.take<float>(tables.operands_.any_size.sub_vector_length() * width)),
        chunk(arena.take<float>(tables.operands_.any_size.sub_vector_length() * kCentroidsAtOnce)),
        products(arena.take<float>(kCentroidsAtOnce * width)) {}

  void fill(const StaticTables& tables, int64_t block, int64_t tile) {
    const Blocking& blocking = tables.operands_.any_size;
    const ConvGeometry& g = blocking.geometry;
    const int64_t in_channels = g.group_in_channels(), taps = g.taps();
    const bool patch = blocking.layout() == Layout::kPatch;
    const int64_t first = blocking.group_of(block) * g.group_out_channels() + tile * tables.tile_channels_;
    std::fill_n(columns, blocking.sub_vector_length() * width, 0.0f);
    for (int64_t l = 0; l < blocking.block_length(block); ++l) {
      const int64_t position = blocking.block_start(block) + l;
      const int64_t in_channel = patch ? position % in_channels : position;
      for (int64_t t = 0; t < tables.taps_; ++t) {
        const int64_t tap = patch ? position / in_channels : t;
        for (int64_t c = 0; c < tables.tile_size(tile); ++c) {
          columns[l * width + t * tables.tile_channels_ + c] =
              tables.operands_.weights[static_cast<size_t>(((first + c) * in_channels + in_channel) * taps + tap)];
        }
      }
    }
  }

  // Calls `take(centroid, products)` for each centroid of the block; products are [taps, tile_channels].
  template <typename Take>
  void multiply(const StaticTables& tables, int64_t block, const Take& take) {
    const int64_t length = tables.operands_.any_size.sub_vector_length(), count = tables.operands_.clusters;
    const float* centroids = tables.operands_.centroids.data() + block * count * length;
    for (int64_t first = 0; first < count; first += kCentroidsAtOnce) {
      const int64_t some = std::min(kCentroidsAtOnce, count - first);
      for (int64_t c = 0; c < some; ++c) {
        for (int64_t l = 0; l < length; ++l) chunk[l * some + c] = centroids[(first + c) * length + l];
      }
      simd::kernels().project(columns, width, length, width, chunk, some, products, width);
      for (int64_t c = 0; c < some; ++c) take(first + c, products + c * width);
    }
  }

  int64_t width;
  float* columns;
  float* chunk;
  float* products;
};

void StaticTables::find_scales() {
  const Blocking& blocking = operands_.any_size;
  const int64_t blocks = blocking.num_blocks();
  std::vector<double> sums(static_cast<size_t>(blocks * num_tiles_ * tile_channels_));  // by block, tile and channel
  in_parallel(blocks * num_tiles_, [&](int64_t task) {
    const int64_t block = task / num_tiles_, tile = task % num_tiles_;
    const Placed<Panel> placed(memory_, *this);
    Panel panel = *placed;
    panel.fill(*this, block, tile);
    std::vector<float> largest(static_cast<size_t>(taps_ * tile_channels_), 0.0f);
    panel.multiply(*this, block, [&](int64_t, const float* products) {
      for (size_t i = 0; i < largest.size(); ++i) {
        keep_larger(largest[i], std::fabs(products[i]));
      }
    });
    for (int64_t c = 0; c < tile_channels_; ++c) {
      sums[static_cast<size_t>(task * tile_channels_ + c)] =
          largest_tap_sum(blocking, largest.data() + c, tile_channels_);
    }
  });
  scales_.resize(static_cast<size_t>(blocking.geometry.attributes.group * num_tiles_ * tile_channels_), 0.0f);
  inverses_.resize(scales_.size(), 0.0f);
  for (int64_t group = 0; group < blocking.geometry.attributes.group; ++group) {
    for (int64_t i = 0; i < num_tiles_ * tile_channels_; ++i) {
      double most = 0.0;
      for (int64_t b = 0; b < blocking.blocks_per_group; ++b) {
        const int64_t block = group * blocking.blocks_per_group + b;
        keep_larger(most, sums[static_cast<size_t>(block * num_tiles_ * tile_channels_ + i)]);
      }
      const StaticScale scale = static_scale(most);
      const size_t index = channel_index(group, 0) + static_cast<size_t>(i);
      scales_[index] = scale.scale;
      inverses_[index] = scale.inverse;
    }
  }
}

void StaticTables::write(Allocator& allocator, int64_t block, int64_t tile, uint8_t* rows) const {
  const Placed<Panel> placed(allocator, *this);
  Panel panel = *placed;
  panel.fill(*this, block, tile);
  uint8_t* const zeros = rows + operands_.clusters * row_bytes();
  if (operands_.table == TableType::kFloat) {
    panel.multiply(*this, block, [&](int64_t centroid, const float* products) {
      std::memcpy(rows + centroid * row_bytes(), products, static_cast<size_t>(row_bytes()));
    });
    std::memset(zeros, 0, static_cast<size_t>(row_bytes()));
    return;
  }
  const float* inverse = inverses_.data() + channel_index(operands_.any_size.group_of(block), tile);
  const int64_t columns = operands_.any_size.tap_columns();
  // Entries of neighbouring taps never leave a byte, not even when they are added.
  const auto put = [&](uint8_t* row, int64_t tap, int64_t channel, int32_t entry) {
    const bool biased = tap % columns % kTapsAtOnce == 0 && has_low_byte(channel);
    row[tap * simd::kStaticChannels + byte_of(channel)] =
        static_cast<uint8_t>(entry + (biased ? simd::kStaticBias : 0));
  };
  panel.multiply(*this, block, [&](int64_t centroid, const float* products) {
    for (int64_t t = 0; t < taps_; ++t) {
      for (int64_t c = 0; c < simd::kStaticChannels; ++c) {
        const float scaled = products[t * simd::kStaticChannels + c] * inverse[c];
        put(rows + centroid * row_bytes(), t, c, static_cast<int32_t>((scaled + kToInteger) - kToInteger));
      }
    }
  });
  for (int64_t t = 0; t < taps_; ++t) {
    for (int64_t c = 0; c < simd::kStaticChannels; ++c) put(zeros, t, c, 0);
  }
}

}  // namespace reuse
