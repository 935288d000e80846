// Centroids: means in float64, so that huge clusters lose nothing and large values do not overflow. Sums are taken in
// the order of the vectors, whatever the number of threads.
#include "centroids.h"

#include <algorithm>
#include <vector>

#include "heuristics.h"
#include "simd/kernels.h"
#include "tile.h"
#include "vector_sums.h"

namespace reuse {
namespace {

int64_t strips_of(const Blocking& blocking) {
  return (blocking.sub_vector_length() + simd::kMemberStrip - 1) / simd::kMemberStrip;
}

// Adds a strip of all vectors' elements to their clusters' sums.
void add_strip(Workspace& workspace, const Blocking& blocking, const float* x, int64_t block, Elements strip,
               const int32_t* ids, double* sums) {
  const ConvGeometry& g = blocking.geometry;
  const simd::Kernels& kernels = simd::kernels();
  if (blocking.layout() == Layout::kChannel) {
    const int64_t channel = blocking.first_channel(block) + strip.begin;
    for (int64_t image = 0; image < g.batch; ++image) {
      kernels.add_members(x + (image * g.in_channels + channel) * g.in_pixels(), g.in_pixels(), strip.count,
                          g.in_pixels(), ids + image * g.in_pixels(), sums);
    }
    return;
  }
  Buffer<float> values(workspace, static_cast<size_t>(strip.count * kTileVectors));
  for (int64_t first = 0; first < blocking.vectors; first += kTileVectors) {
    const int64_t count = std::min(kTileVectors, blocking.vectors - first);
    const Tile tile = load_tile(blocking, x, block, strip, first, count, values.data());
    kernels.add_members(tile.values, tile.stride, tile.length, count, ids + first, sums);
  }
}

// Divides a strip's sums by the members; elements beyond the block's own length are zero.
void divide_strip(const Blocking& blocking, Elements strip, const double* sums, BlockClusters& own) {
  const int64_t length = blocking.sub_vector_length(), width = simd::sum_width(strip.count);
  const int64_t padded = std::min(simd::kMemberStrip, length - strip.begin);
  for (int64_t c = 0; c < own.count; ++c) {
    const double members = own.members[static_cast<size_t>(c)];
    float* centroid = own.centroids.data() + c * length + strip.begin;
    for (int64_t l = 0; l < strip.count; ++l) centroid[l] = static_cast<float>(sums[c * width + l] / members);
    for (int64_t l = strip.count; l < padded; ++l) centroid[l] = 0.0f;
  }
}

// Writes one strip of a block's means. Strips, not whole vectors: the sums of a strip fit a cache, and a layer of a
// single block gives work to several threads.
void write_strip_of_means(Workspace& workspace, const Blocking& blocking, const float* x, int64_t block, int64_t begin,
                          const int32_t* ids, BlockClusters& own) {
  const int64_t length = blocking.sub_vector_length();
  const int64_t padded = std::min(simd::kMemberStrip, length - begin);
  const Elements strip{begin, std::clamp<int64_t>(blocking.block_length(block) - begin, 0, padded)};
  const int64_t width = simd::sum_width(strip.count);
  Buffer<double> sums(workspace, static_cast<size_t>(own.count * width));
  std::fill_n(sums.data(), own.count * width, 0.0);
  if (strip.count > 0) add_strip(workspace, blocking, x, block, strip, ids, sums.data());
  divide_strip(blocking, strip, sums.data(), own);
}

// The same for strips first ... end - 1, counted over all blocks, of a pixel-major input: together, as they share cache
// lines.
void write_pixel_means(Workspace& workspace, const Blocking& blocking, const float* x, int64_t first, int64_t end,
                       Clusters& clusters) {
  const int64_t strips = strips_of(blocking);
  struct Strip {
    int64_t block;
    Elements elements;
    Buffer<double> sums;
  };
  std::vector<Strip> own;
  own.reserve(static_cast<size_t>(end - first));
  for (int64_t index = first; index < end; ++index) {
    const int64_t block = index / strips, begin = index % strips * simd::kMemberStrip;
    const int64_t count = std::clamp<int64_t>(blocking.block_length(block) - begin, 0, simd::kMemberStrip);
    const int64_t size = clusters.blocks[static_cast<size_t>(block)].count * simd::sum_width(count);
    own.push_back({block, {begin, count}, Buffer<double>(workspace, static_cast<size_t>(size))});
    std::fill_n(own.back().sums.data(), size, 0.0);
  }
  for (int64_t start = 0; start < blocking.vectors; start += kTileVectors) {
    for (Strip& strip : own) {
      if (strip.elements.count == 0) continue;
      const Rows rows = rows_in_place(blocking, x, strip.block, strip.elements, start,
                                      std::min(kTileVectors, blocking.vectors - start));
      const int32_t* ids = clusters.ids.data() + strip.block * blocking.vectors + start;
      simd::kernels().add_strips(rows.values, rows.stride, rows.length, rows.count, ids, strip.sums.data());
    }
  }
  for (const Strip& strip : own) {
    divide_strip(blocking, strip.elements, strip.sums.data(), clusters.blocks[static_cast<size_t>(strip.block)]);
  }
}

void write_angular(Workspace& workspace, const Blocking& blocking, const float* x, int64_t block, const int32_t* ids,
                   BlockClusters& own) {
  const int64_t length = blocking.sub_vector_length();
  VectorSums sums(workspace, Metric::kAngular, length);
  sums.make_room(own.count);
  Buffer<float> values(workspace, static_cast<size_t>(length * kTileVectors));
  for (int64_t first = 0; first < blocking.vectors; first += kTileVectors) {
    const Tile tile =
        load_tile(blocking, x, block, first, std::min(kTileVectors, blocking.vectors - first), values.data());
    for (int64_t p = 0; p < tile.count; ++p) sums.add(tile, p, ids[first + p]);
  }
  for (int64_t c = 0; c < own.count; ++c) {
    sums.write(c, own.members[static_cast<size_t>(c)], own.centroids.data() + c * length);
  }
}

}  // namespace

void write_centroids(Workspace& workspace, const Blocking& blocking, const ClusterAttributes& attributes,
                     const float* x, BlockRange blocks, Clusters& clusters) {
  const int64_t length = blocking.sub_vector_length(), strips = strips_of(blocking);
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    BlockClusters& own = clusters.blocks[static_cast<size_t>(block)];
    own.centroids.resize(static_cast<size_t>(own.count * length));
  }
  const bool angular = attributes.metric == Metric::kAngular;
  if (!angular && blocking.geometry.attributes.input_order == DataOrder::kNhwc) {
    const int64_t all = blocking.num_blocks() * strips;
    const int64_t together = std::max<int64_t>(1, kChannelsTogether * strips / length);
    workspace.parallel.run((all + together - 1) / together, [&](int64_t task) {
      write_pixel_means(workspace, blocking, x, task * together, std::min(all, (task + 1) * together), clusters);
    });
    return;
  }
  const int64_t tasks_per_block = angular ? 1 : strips;
  workspace.parallel.run((blocks.end - blocks.begin) * tasks_per_block, [&](int64_t task) {
    const int64_t block = blocks.begin + task / tasks_per_block;
    BlockClusters& own = clusters.blocks[static_cast<size_t>(block)];
    const int32_t* ids = clusters.ids.data() + block * blocking.vectors;
    if (angular) {
      write_angular(workspace, blocking, x, block, ids, own);
    } else {
      write_strip_of_means(workspace, blocking, x, block, task % strips * simd::kMemberStrip, ids, own);
    }
  });
}

}  // namespace reuse
