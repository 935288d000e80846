// Times every innermost loop alone, on data of the size that it meets in a 3x3 layer: `make kernel-bench`.
//
// Prints nanoseconds per item, what that is in operations or bytes per second, and as JSON with the argument --json.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "../cpu/simd/kernels.h"
#include "../cpu/tile.h"
#include "reuse/hash_family.h"
#include "reuse/workers.h"

namespace reuse::bench {
namespace {

constexpr int64_t kLength = 64, kHashes = 8, kClusters = 256, kTaps = 9, kChannels = 64, kWidth = 56,
                  kWidthOfTaps = kTaps * kChannels;
constexpr int kSamples = 15;
constexpr double kSampleSeconds = 0.01;

template <typename T>
std::vector<T> random_values(size_t count, T low, T high) {
  std::mt19937 random(1);
  std::vector<T> values(count);
  for (T& value : values) {
    value = static_cast<T>(low + static_cast<double>(random()) / 4294967296.0 * static_cast<double>(high - low));
  }
  return values;
}

// Median seconds of one call.
double seconds_per_call(const std::function<void()>& call) {
  using Clock = std::chrono::steady_clock;
  const auto timed = [&call](int64_t calls) {
    const auto start = Clock::now();
    for (int64_t i = 0; i < calls; ++i) call();
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  int64_t calls = 1;
  while (timed(calls) < kSampleSeconds) calls *= 2;
  std::vector<double> samples;
  samples.reserve(kSamples);
  for (int sample = 0; sample < kSamples; ++sample) samples.push_back(timed(calls) / static_cast<double>(calls));
  std::nth_element(samples.begin(), samples.begin() + kSamples / 2, samples.end());
  return samples[kSamples / 2];
}

class Report {
 public:
  explicit Report(bool json) : json_(json) {
    if (json_) {
      std::printf("[");
    } else {
      std::printf("%-14s %10s %12s  %s\n", simd::kernels().name, "ns/item", "G/s", "item; what is counted");
    }
  }
  Report(const Report&) = delete;
  Report& operator=(const Report&) = delete;
  ~Report() {
    if (json_) std::printf("]\n");
  }

  // `items` and `amount` are per call; `amount` counts what `unit` names.
  void add(const char* kernel, double items, double amount, const char* unit, const std::function<void()>& call) {
    const double seconds = seconds_per_call(call);
    const double ns = 1e9 * seconds / items, rate = 1e-9 * amount / seconds;
    if (json_) {
      std::printf("%s{\"isa\":\"%s\",\"kernel\":\"%s\",\"ns_per_item\":%.4f,\"giga_per_second\":%.2f,\"unit\":\"%s\"}",
                  separator_, simd::kernels().name, kernel, ns, rate, unit);
      separator_ = ",\n";
    } else {
      std::printf("%-14s %10.3f %12.1f  %s\n", kernel, ns, rate, unit);
    }
  }

 private:
  bool json_;
  const char* separator_ = "";
};

void hashing(Report& report) {
  const simd::Kernels& k = simd::kernels();
  const auto values = random_values<float>(kLength * kTileVectors, -1.0f, 1.0f);
  const auto projections = random_values<float>(kLength * kHashes, -1.0f, 1.0f);
  const auto thresholds = random_values<float>(1 << kHashes, -1.0f, 1.0f);
  const auto coordinates = random_values<int32_t>(1 << kHashes, 0, static_cast<int32_t>(kLength - 1));
  std::vector<float> projected(kHashes * kTileVectors);
  std::vector<int64_t> codes(kTileVectors);
  std::vector<uint8_t> finite(kTileVectors);
  const double elements = kLength * kTileVectors;
  report.add("project", elements, 2.0 * elements * kHashes, "element, H=8; operations", [&] {
    k.project(values.data(), kTileVectors, kLength, kTileVectors, projections.data(), kHashes, projected.data(),
              kTileVectors);
  });
  report.add("sign_bits", kTileVectors, static_cast<double>(kTileVectors * kHashes), "vector, H=8; comparisons", [&] {
    k.sign_bits(projected.data(), kTileVectors, kHashes, kTileVectors, thresholds.data(), codes.data());
  });
  report.add("tree_leaves", kTileVectors, static_cast<double>(kTileVectors * kHashes), "vector, H=8; comparisons", [&] {
    k.tree_leaves(values.data(), kTileVectors, kTileVectors, coordinates.data(), thresholds.data(), kHashes,
                  codes.data());
  });
  std::vector<float> rows(kTileVectors * simd::kLanes);
  report.add("tile_rows", kTileVectors * simd::kLanes, 4.0 * kTileVectors * simd::kLanes, "element, L=16; bytes",
             [&] { k.tile_rows(values.data(), kTileVectors, simd::kLanes, kTileVectors, rows.data(), simd::kLanes); });
  report.add("fingerprint", elements, 4.0 * elements, "element; bytes",
             [&] { k.fingerprint(values.data(), kTileVectors, kLength, kTileVectors, codes.data()); });
  report.add("all_finite", elements, 4.0 * elements, "element; bytes",
             [&] { k.all_finite(values.data(), kTileVectors, kLength, kTileVectors, finite.data()); });
  report.add("finite_rows", elements, 4.0 * elements, "element, in the order of memory; bytes",
             [&] { k.all_finite_rows(values.data(), kLength, kLength, kTileVectors, finite.data()); });
}

// Family `learned` as layers have it, once with thresholds on a grid, where all of a level's nodes differ, and once
// with others: a walk by bytes and one from node to node.
void trees(Report& report) {
  AlignedAllocator allocator;
  constexpr int64_t kNodes = (1 << kHashes) - 1, kTiles = 16;
  for (const int64_t length : {4, 8, 16, 32}) {
    for (const bool rotated : {false, true}) {
      if (rotated && length != 8) continue;
      const auto drawn = random_values<float>(static_cast<size_t>(length * kTileVectors * kTiles), -1.0f, 1.0f);
      Buffer<float> values(allocator, drawn.size());  // tiles begin with a cache line
      std::copy(drawn.begin(), drawn.end(), values.data());
      const auto rotation = random_values<float>(static_cast<size_t>(length * length), -1.0f, 1.0f);
      const auto coordinates = random_values<int32_t>(kNodes, 0, static_cast<int32_t>(length));
      for (const bool on_grid : {true, false}) {
        auto thresholds = random_values<float>(kNodes, -1.0f, 1.0f);
        if (on_grid) {
          for (float& threshold : thresholds) threshold = std::nearbyint(threshold * 120.0f) / 128.0f;
        }
        const auto encoder = find_hash_family("learned").encoder(
            allocator, {rotated ? rotation.data() : nullptr, thresholds.data(), coordinates.data()},
            {1, length, kHashes});
        Buffer<float> scratch(allocator, static_cast<size_t>(encoder->scratch_floats()));
        std::vector<uint8_t> codes(kTileVectors);
        const std::string unit =
            "vector, L=" + std::to_string(length) + (rotated ? ", rotated" : "") + ", H=8; elements";
        const double vectors = kTileVectors * kTiles;
        report.add(
            on_grid ? "tree_bytes" : "tree_floats", vectors, vectors * static_cast<double>(length), unit.c_str(), [&] {
              for (int64_t t = 0; t < kTiles; ++t) {
                const float* own = values.data() + t * kTileVectors * length;
                encoder->narrow_codes({own, kTileVectors, length, kTileVectors}, 0, scratch.data(), codes.data());
              }
            });
      }
    }
  }
}

void members(Report& report) {
  const auto values = random_values<float>(simd::kMemberStrip * kTileVectors, -1.0f, 1.0f);
  const auto ids = random_values<int32_t>(kTileVectors, 0, static_cast<int32_t>(kClusters));
  std::vector<double> sums(kClusters * simd::kMemberStrip);
  const double elements = simd::kMemberStrip * kTileVectors;
  report.add("add_members", elements, elements, "element; additions", [&] {
    simd::kernels().add_members(values.data(), kTileVectors, simd::kMemberStrip, kTileVectors, ids.data(), sums.data());
  });
  report.add("add_strips", elements, elements, "element, in the order of memory; additions", [&] {
    simd::kernels().add_strips(values.data(), simd::kMemberStrip, simd::kMemberStrip, kTileVectors, ids.data(),
                               sums.data());
  });
}

// Windows as rows, the way of short vectors of the patch layout: 3x3 taps of 3 channels.
void windows(Report& report) {
  constexpr int64_t kStride = 32, kPieces = 3, kPieceFloats = 9, kDepth = 12, kSubtrees = 1 + 16 + 256;
  const simd::Kernels& k = simd::kernels();
  const auto band = random_values<float>(kStride + kTileVectors * kPieces, -1.0f, 1.0f);
  const auto nodes = random_values<float>(kSubtrees * 16, -1.0f, 1.0f);
  const auto ids = random_values<int32_t>(kTileVectors, 0, static_cast<int32_t>(kClusters));
  std::vector<simd::Piece> pieces;
  pieces.reserve(kPieces);
  for (int64_t i = 0; i < kPieces; ++i) {
    pieces.push_back({band.data() + simd::kLanes, kPieces, i * kPieceFloats, kPieceFloats});
  }
  std::vector<simd::Subtree> subtrees(kSubtrees);
  for (size_t i = 0; i < nodes.size(); ++i) {
    subtrees[i / 16].thresholds[i % 16] = nodes[i];
    subtrees[i / 16].coordinates[i % 16] = static_cast<int32_t>(i * 7 % (kPieces * kPieceFloats));
  }
  std::vector<float> rows(kTileVectors * kStride), tile(kTileVectors * kStride);
  std::vector<double> sums(kClusters * kStride);
  std::vector<int64_t> codes(kTileVectors);
  const double elements = kTileVectors * kPieces * kPieceFloats;
  report.add("copy_pieces", elements, 4.0 * elements, "element, 3 pieces of 9; bytes",
             [&] { k.copy_pieces(pieces.data(), kPieces, kTileVectors, rows.data(), kStride); });
  report.add(
      "subtree_leaves", kTileVectors, static_cast<double>(kTileVectors * kDepth), "vector, H=12; comparisons",
      [&] { k.subtree_leaves(rows.data(), kStride, kStride, kTileVectors, subtrees.data(), kDepth, codes.data()); });
  report.add("transpose_rows", elements, 4.0 * elements, "element; bytes", [&] {
    k.transpose_rows(rows.data(), kStride, kStride, kTileVectors, kTileVectors * kStride, tile.data(), kTileVectors);
  });
  report.add("add_rows", elements, elements, "element, random ids; additions",
             [&] { k.add_rows(rows.data(), kStride, kTileVectors, ids.data(), sums.data(), kStride); });
}

void tables(Report& report) {
  const simd::Kernels& k = simd::kernels();
  const int64_t width = kTaps * kChannels;
  const auto centroids = random_values<float>(kClusters * kLength, -1.0f, 1.0f);
  const auto panel = random_values<float>(kLength * width, -1.0f, 1.0f);
  const std::vector<float> inverse(kChannels, 1.0f);
  std::vector<float> table(kClusters * width);
  std::vector<uint8_t> bytes(kClusters * width);
  const double products = static_cast<double>(kClusters * kLength * width);
  report.add("gemm", products, 2.0 * products, "multiply-add, 256x64x576; operations", [&] {
    k.gemm(centroids.data(), kClusters, kLength, panel.data(), kLength * simd::kLanes, width, table.data(), width);
  });
  report.add("gemm_int8", products, 2.0 * products, "multiply-add, 256x64x576; operations", [&] {
    k.gemm_int8(centroids.data(), kClusters, kLength, panel.data(), width, inverse.data(), bytes.data(), width);
  });
}

void gathering(Report& report) {
  const simd::Kernels& k = simd::kernels();
  const int64_t width = kTaps * kChannels;
  const auto table = random_values<float>(kClusters * width, -1.0f, 1.0f);
  const auto bytes = random_values<uint8_t>(kClusters * width, 0, 255);
  const auto ids = random_values<int32_t>(kWidth * kWidth, 0, static_cast<int32_t>(kClusters));
  const std::vector<float> scale(kChannels, 1.0f);
  std::vector<float> sums(kWidth * kChannels), y(kWidth * kChannels);
  const simd::TapRow row{0, kWidth, kWidth, 3, 3, 1, 1, 1, kWidth / 2, -1, kWidth};
  const double adds = static_cast<double>(kWidth * kTaps * kChannels);
  const simd::BlockTable float_block{ids.data(), table.data()}, int8_block{ids.data(), bytes.data()};
  report.add("add_taps", adds, 4.0 * adds, "add, random ids; bytes",
             [&] { k.add_taps({&float_block, 1, width, kChannels, kChannels}, row, {sums.data(), kChannels, true}); });
  report.add("add_taps_int8", adds, adds, "add, random ids; bytes", [&] {
    k.add_taps_int8({&int8_block, 1, width, kChannels, kChannels}, row, scale.data(), {nullptr, 0, true},
                    {sums.data(), kChannels, true});
  });
  auto offsets = random_values<uint16_t>(3 * (kWidth + 2), 0, static_cast<uint16_t>(kClusters));
  for (uint16_t& offset : offsets) offset = static_cast<uint16_t>(offset * width / simd::kOffsetUnit);
  const simd::StaticPixels row_pixels{0, kWidth + 2, 3, 3, 1, 1, 1, 1, 1, kWidth};
  const simd::StaticBlock static_block{bytes.data(), offsets.data()};
  report.add("add_static_int8", adds, adds, "add, random rows; bytes", [&] {
    k.add_static_int8({&static_block, 1, kChannels, false, nullptr, 0, {}}, row_pixels, {nullptr, 0, 3, true, true},
                      {sums.data(), kChannels, 0, true, scale.data()});
  });
  const double outputs = static_cast<double>(kWidth * kChannels);
  report.add("write_output", outputs, 4.0 * outputs, "element with bias and Relu; bytes", [&] {
    k.write_output({sums.data(), kChannels, false}, kWidth,
                   {y.data(), kWidth, kChannels, scale.data(), Activation::kRelu, 0.0f, 0.0f});
  });
  report.add("write_rows", outputs, 4.0 * outputs, "element with bias and Relu, random ids; bytes", [&] {
    k.write_rows(table.data(), width, ids.data(), kWidth,
                 {y.data(), kWidth, kChannels, scale.data(), Activation::kRelu, 0.0f, 0.0f});
  });
  report.add("write_pixels", outputs, 4.0 * outputs, "element, pixel-major; bytes", [&] {
    k.write_output({sums.data(), kChannels, false}, kWidth,
                   {y.data(), 1, kChannels, scale.data(), Activation::kRelu, 0.0f, 0.0f, kChannels});
  });
}

// What a quantised layer does with bytes.
void quantised(Report& report) {
  const simd::Kernels& k = simd::kernels();
  const auto rows = random_values<uint8_t>(kClusters * kLength, 0, 255);
  std::vector<uint8_t> y(kWidth * kChannels);
  const auto weights = random_values<int8_t>(kLength * kWidthOfTaps, -127, 127);
  const std::vector<int32_t> start(kWidthOfTaps);
  std::vector<int32_t> table(kClusters * kWidthOfTaps), sums(kWidth * kChannels);
  const double products = static_cast<double>(kClusters * kLength * kWidthOfTaps);
  std::vector<const uint8_t*> vectors;
  vectors.reserve(kClusters);
  for (int64_t c = 0; c < kClusters; ++c) vectors.push_back(rows.data() + c * kLength);
  report.add("multiply_bytes", products, products, "multiply-add, 256x64x576; multiply-adds", [&] {
    simd::multiply_bytes()({vectors.data(), kClusters, 1, kLength, weights.data(), 0, kLength * simd::kLanes,
                            kWidthOfTaps / simd::kLanes, start.data(), simd::kLanes},
                           table.data(), kWidthOfTaps);
  });
  const auto ids = random_values<int32_t>(kWidth * kTaps, 0, static_cast<int32_t>(kClusters));
  std::vector<const int32_t*> tables;
  tables.reserve(kTaps);
  for (int64_t tap = 0; tap < kTaps; ++tap) tables.push_back(table.data() + tap * kChannels);
  const double adds = static_cast<double>(kWidth * kTaps * kChannels);
  report.add("add_windows", adds, 4.0 * adds, "add, random ids; bytes", [&] {
    k.add_windows({tables.data(), kTaps, kWidthOfTaps, kChannels}, ids.data(), kTaps, kWidth, start.data(),
                  sums.data());
  });
  std::vector<int32_t> places(kWidth);
  std::iota(places.begin(), places.end(), 0);
  const std::vector<float> scales(kChannels, 1e-3f);
  const double outputs = static_cast<double>(kWidth * kChannels);
  report.add("write_bytes", outputs, outputs, "element; bytes", [&] {
    k.write_bytes(sums.data(), kChannels, kWidth, kChannels, {scales.data(), {0.0f, 255.0f, 0}}, places.data(),
                  y.data(), kChannels);
  });
}

// The conversion of layout at a layer's input: NCHW to tiles of pixel vectors.
void loading(Report& report) {
  ConvAttributes attributes;
  attributes.kernel_h = attributes.kernel_w = 3;
  attributes.pad_top = attributes.pad_left = attributes.pad_bottom = attributes.pad_right = 1;
  attributes.sub_vector_length = kLength;
  for (const Layout layout : {Layout::kChannel, Layout::kPatch}) {
    attributes.layout = layout;
    const Blocking blocking = Blocking::make(ConvGeometry::make(attributes, 1, kLength, 224, 224, kChannels));
    const auto x = random_values<float>(static_cast<size_t>(kLength * 224 * 224), -1.0f, 1.0f);
    std::vector<float> values(kLength * kTileVectors);
    const double elements = static_cast<double>(kLength * blocking.vectors);
    report.add(layout == Layout::kChannel ? "load_channel" : "load_patch", elements, 4.0 * elements,
               "element, 64x224x224 from memory; bytes", [&] {
                 for (int64_t first = 0; first < blocking.vectors; first += kTileVectors) {
                   load_tile(blocking, x.data(), 0, first, std::min(kTileVectors, blocking.vectors - first),
                             values.data());
                 }
               });
  }
}

}  // namespace
}  // namespace reuse::bench

int main(int argc, char** argv) {
  reuse::bench::Report report(argc > 1 && std::strcmp(argv[1], "--json") == 0);
  reuse::bench::hashing(report);
  reuse::bench::trees(report);
  reuse::bench::members(report);
  reuse::bench::windows(report);
  reuse::bench::tables(report);
  reuse::bench::gathering(report);
  reuse::bench::quantised(report);
  reuse::bench::loading(report);
  return 0;
}
