// The backward pass: output deltas are summed by cluster, and the sums are multiplied in place of the deltas.
#include <algorithm>
#include <memory>
#include <vector>

#include "gather.h"
#include "heuristics.h"
#include "reuse/training.h"
#include "simd/kernels.h"
#include "stopwatch.h"

namespace reuse {
namespace {

int64_t whole_lanes(int64_t floats) { return (floats + simd::kLanes - 1) / simd::kLanes * simd::kLanes; }

// The output's deltas, pixel-major, each group's channels followed by zeros up to whole lanes.
class PixelDeltas {
 public:
  PixelDeltas(Workspace& workspace, const ConvGeometry& g, const float* dy)
      : memory_(workspace), channels_(g.group_out_channels()), padded_(whole_lanes(channels_)) {
    const bool pixel_major = g.attributes.output_order == DataOrder::kNhwc;
    stride_ = padded_ * g.attributes.group;
    if (pixel_major && padded_ == channels_) {
      values_ = dy;
      return;
    }
    memory_.resize(static_cast<size_t>(g.rows() * stride_));
    workspace.parallel.run(g.batch * g.attributes.group, [&](int64_t task) {
      const int64_t image = task / g.attributes.group, group = task % g.attributes.group;
      float* out = memory_.data() + image * g.out_pixels() * stride_ + group * padded_;
      if (pixel_major) {
        const float* source = dy + image * g.out_pixels() * g.out_channels + group * channels_;
        for (int64_t p = 0; p < g.out_pixels(); ++p) {
          std::copy_n(source + p * g.out_channels, channels_, out + p * stride_);
          std::fill_n(out + p * stride_ + channels_, padded_ - channels_, 0.0f);
        }
        return;
      }
      const float* planes = dy + (image * g.out_channels + group * channels_) * g.out_pixels();
      simd::kernels().pack_pixels(planes, g.out_pixels(), channels_, g.out_pixels(), out, stride_);
    });
    values_ = memory_.data();
  }

  int64_t stride() const { return stride_; }
  // Values of a group's channel at a pixel, counted over all images.
  const float* at(int64_t group, int64_t pixel, int64_t channel) const {
    return values_ + pixel * stride_ + group * padded_ + channel;
  }

 private:
  Buffer<float> memory_;
  int64_t channels_, padded_;
  int64_t stride_ = 0;
  const float* values_ = nullptr;
};

// One block's sums for a strip of its group's output channels.
struct Strip {
  int64_t block;
  int64_t first;     // channel within the group
  int64_t channels;  // that exist
  int64_t padded;    // to whole lanes
};

// Delta of the weights that a strip of channels has, element l of the block, tap, channel: [L, taps, padded].
struct StripGradient {
  explicit StripGradient(Allocator& allocator) : weights(allocator), centroids(allocator) {}
  Buffer<float> weights;
  Buffer<float> centroids;  // [C, L], not yet divided by the members
};

// Computes strip after strip; all that a strip needs is its own.
class StripBackward {
 public:
  StripBackward(Workspace& workspace, const Blocking& blocking, const Clusters& clusters, const float* weights,
                const PixelDeltas& deltas)
      : workspace_(workspace), blocking_(blocking), clusters_(clusters), weights_(weights), deltas_(deltas) {}

  StripGradient run(const Strip& strip, const Gradients& wanted) const {
    Buffer<float> sums = sum_by_cluster(strip);
    StripGradient result(workspace_);
    if (wanted.weights != nullptr) multiply_centroids(strip, sums, result.weights);
    if (wanted.x != nullptr) multiply_weights(strip, sums, result.centroids);
    return result;
  }

 private:
  const BlockClusters& own(const Strip& strip) const { return clusters_.blocks[static_cast<size_t>(strip.block)]; }
  int64_t width(const Strip& strip) const { return blocking_.taps_per_block() * strip.padded; }

  // Eq. 8: sums [C, taps, padded] of the deltas of all output pixels that read a cluster's members with a tap.
  Buffer<float> sum_by_cluster(const Strip& strip) const {
    const ConvGeometry& g = blocking_.geometry;
    Buffer<float> sums(workspace_, static_cast<size_t>(own(strip).count * width(strip)));
    std::fill_n(sums.data(), sums.size(), 0.0f);
    const simd::SumTable table{clusters_.ids.data() + strip.block * blocking_.vectors, sums.data(), width(strip),
                               strip.padded};
    for (int64_t image = 0; image < g.batch; ++image) {
      for (int64_t row = 0; row < g.out_h; ++row) {
        const float* values =
            deltas_.at(blocking_.group_of(strip.block), (image * g.out_h + row) * g.out_w, strip.first);
        simd::kernels().scatter_taps(table, tap_row(blocking_, image, row, 0, g.out_w), values, deltas_.stride(),
                                     strip.padded);
      }
    }
    return sums;
  }

  // Eq. 10: centroids^T [L, C] times sums [C, taps * padded], some clusters at a time.
  void multiply_centroids(const Strip& strip, const Buffer<float>& sums, Buffer<float>& out) const {
    const int64_t length = blocking_.sub_vector_length(), columns = width(strip), clusters = own(strip).count;
    out.resize(static_cast<size_t>(length * columns));
    std::fill_n(out.data(), out.size(), 0.0f);
    const int64_t most = std::min(clusters, kClustersAtOnce);
    Buffer<float> transposed(workspace_, static_cast<size_t>(length * most));
    Buffer<float> panel(workspace_, static_cast<size_t>(columns * most));
    Buffer<float> product(workspace_, static_cast<size_t>(length * columns));
    for (int64_t begin = 0; begin < clusters; begin += most) {
      const int64_t count = std::min(most, clusters - begin);
      for (int64_t c = 0; c < count; ++c) {
        const float* centroid = own(strip).centroids.data() + (begin + c) * length;
        for (int64_t l = 0; l < length; ++l) transposed[static_cast<size_t>(l * count + c)] = centroid[l];
        const float* row = sums.data() + (begin + c) * columns;
        for (int64_t n = 0; n < columns; n += simd::kLanes) {
          std::copy_n(row + n, simd::kLanes, panel.data() + n * count + c * simd::kLanes);
        }
      }
      simd::kernels().gemm(transposed.data(), length, count, panel.data(), count * simd::kLanes, columns,
                           product.data(), columns);
      for (size_t i = 0; i < product.size(); ++i) out[i] += product[i];
    }
  }

  // Eq. 18 but for the division: sums [C, taps * padded] times the weights' transpose [taps * padded, L].
  void multiply_weights(const Strip& strip, const Buffer<float>& sums, Buffer<float>& out) const {
    const int64_t length = blocking_.sub_vector_length(), depth = width(strip);
    Buffer<float> panel(workspace_, static_cast<size_t>(depth * whole_lanes(length)));
    std::fill_n(panel.data(), panel.size(), 0.0f);
    for_each_weight(blocking_, strip, [&](int64_t l, int64_t column, int64_t index) {
      panel[static_cast<size_t>((l / simd::kLanes * depth + column) * simd::kLanes + l % simd::kLanes)] =
          weights_[index];
    });
    out.resize(static_cast<size_t>(own(strip).count * length));
    simd::kernels().gemm(sums.data(), own(strip).count, depth, panel.data(), depth * simd::kLanes, length, out.data(),
                         length);
  }

 public:
  // Calls `visit(l, column, index)` for each element l of the block and column (tap, channel) of the strip, with the
  // weight's place in [M, Ic/group, kh, kw].
  template <typename Visit>
  static void for_each_weight(const Blocking& blocking, const Strip& strip, const Visit& visit) {
    const ConvGeometry& g = blocking.geometry;
    const int64_t in_channels = g.group_in_channels(), taps = g.taps();
    const int64_t out_channel = blocking.group_of(strip.block) * g.group_out_channels() + strip.first;
    const bool patch = blocking.layout() == Layout::kPatch;
    for (int64_t l = 0; l < blocking.block_length(strip.block); ++l) {
      const int64_t position = blocking.block_start(strip.block) + l;
      const int64_t in_channel = patch ? position % in_channels : position;
      for (int64_t t = 0; t < blocking.taps_per_block(); ++t) {
        const int64_t tap = patch ? position / in_channels : t;
        for (int64_t c = 0; c < strip.channels; ++c) {
          visit(l, t * strip.padded + c, ((out_channel + c) * in_channels + in_channel) * taps + tap);
        }
      }
    }
  }

 private:
  Workspace& workspace_;
  const Blocking& blocking_;
  const Clusters& clusters_;
  const float* weights_;
  const PixelDeltas& deltas_;
};

// Cuts the blocks' output channels into strips whose sums stay in a cache, as long as there is a narrower strip.
std::vector<Strip> cut_strips(const Blocking& blocking, const Clusters& clusters) {
  const int64_t channels = blocking.geometry.group_out_channels();
  std::vector<Strip> strips;
  for (int64_t block = 0; block < blocking.num_blocks(); ++block) {
    const int64_t rows = clusters.blocks[static_cast<size_t>(block)].count * blocking.taps_per_block();
    const int64_t size =
        choose_sum_channels(whole_lanes(channels), rows * static_cast<int64_t>(sizeof(float)), blocking.num_blocks());
    for (int64_t first = 0; first < channels; first += size) {
      const int64_t count = std::min(size, channels - first);
      strips.push_back({block, first, count, whole_lanes(count)});
    }
  }
  return strips;
}

// The deltas [C, L] of each block's centroids: the strips' sums, over the members (Eq. 13). Rows are followed by as
// much as whole lanes may be read beyond them.
std::vector<Buffer<float>> centroid_deltas(Workspace& workspace, const Blocking& blocking, const Clusters& clusters,
                                           const std::vector<Strip>& strips,
                                           const std::vector<std::unique_ptr<StripGradient>>& found) {
  const int64_t length = blocking.sub_vector_length();
  std::vector<Buffer<float>> deltas;
  for (const BlockClusters& own : clusters.blocks) {
    deltas.emplace_back(workspace, static_cast<size_t>(own.count * length + simd::kLanes));
    std::fill_n(deltas.back().data(), deltas.back().size(), 0.0f);
  }
  for (size_t i = 0; i < strips.size(); ++i) {
    float* total = deltas[static_cast<size_t>(strips[i].block)].data();
    const Buffer<float>& part = found[i]->centroids;
    for (size_t k = 0; k < part.size(); ++k) total[k] += part[k];
  }
  for (size_t block = 0; block < deltas.size(); ++block) {
    const BlockClusters& own = clusters.blocks[block];
    for (int64_t c = 0; c < own.count; ++c) {
      float* row = deltas[block].data() + c * length;
      const float members = static_cast<float>(own.members[static_cast<size_t>(c)]);
      for (int64_t l = 0; l < length; ++l) row[l] /= members;
    }
  }
  return deltas;
}

// Layout channel: a pixel's channels get the delta of their centroid.
void write_pixels(Workspace& workspace, const Blocking& blocking, const Clusters& clusters,
                  const std::vector<Buffer<float>>& deltas, float* dx) {
  const ConvGeometry& g = blocking.geometry;
  const bool pixel_major = g.attributes.input_order == DataOrder::kNhwc;
  workspace.parallel.run(blocking.num_blocks() * g.batch, [&](int64_t task) {
    const int64_t block = task % blocking.num_blocks(), image = task / blocking.num_blocks();
    const int64_t channel = blocking.first_channel(block);
    const simd::OutputTile tile{pixel_major ? dx + image * g.in_pixels() * g.in_channels + channel
                                            : dx + (image * g.in_channels + channel) * g.in_pixels(),
                                pixel_major ? 1 : g.in_pixels(),
                                blocking.block_length(block),
                                nullptr,
                                Activation::kNone,
                                0.0f,
                                0.0f,
                                pixel_major ? g.in_channels : 1};
    simd::kernels().write_rows(deltas[static_cast<size_t>(block)].data(), blocking.sub_vector_length(),
                               clusters.ids.data() + block * blocking.vectors + image * g.in_pixels(), g.in_pixels(),
                               tile);
  });
}

// Layout patch: rows of the unfolded input's deltas are added where its windows read.
class Folder {
 public:
  Folder(Workspace& workspace, const Blocking& blocking, const Clusters& clusters,
         const std::vector<Buffer<float>>& deltas)
      : workspace_(workspace), blocking_(blocking), clusters_(clusters), deltas_(deltas) {
    const ConvGeometry& g = blocking.geometry;
    const ConvAttributes& a = g.attributes;
    height_ = g.in_h + a.pad_top + a.pad_bottom;
    columns_ = g.in_w + a.pad_left + a.pad_right;
    for (int64_t block = 0; block < blocking.blocks_per_group; ++block) pieces_.push_back(find_pieces(block));
  }

  void run(float* dx) const {
    const int64_t groups = blocking_.geometry.attributes.group;
    workspace_.parallel.run(blocking_.geometry.batch * groups,
                            [&](int64_t task) { fold(task / groups, task % groups, dx); });
  }

 private:
  std::vector<simd::FoldPiece> find_pieces(int64_t block) const {
    const ConvAttributes& a = blocking_.geometry.attributes;
    const int64_t channels = blocking_.geometry.group_in_channels();
    const int64_t start = blocking_.block_start(block), end = start + blocking_.block_length(block);
    const int64_t together = a.dilation_w == 1 ? a.kernel_w : 1;  // taps that are neighbours in the image
    std::vector<simd::FoldPiece> pieces;
    for (int64_t begin = start; begin < end;) {
      const int64_t tap = begin / channels, row = tap / a.kernel_w, column = tap % a.kernel_w;
      const int64_t next = std::min(end, (row * a.kernel_w + column / together * together + together) * channels);
      const int64_t pixel = row * a.dilation_h * columns_ + column * a.dilation_w;
      pieces.push_back({begin - start, pixel * channels + begin % channels, next - begin});
      begin = next;
    }
    return pieces;
  }

  void fold(int64_t image, int64_t group, float* dx) const {
    const ConvGeometry& g = blocking_.geometry;
    const ConvAttributes& a = g.attributes;
    const int64_t channels = g.group_in_channels();
    Buffer<float> padded(workspace_, static_cast<size_t>(height_ * columns_ * channels));
    std::fill_n(padded.data(), padded.size(), 0.0f);
    for (int64_t index = 0; index < blocking_.blocks_per_group; ++index) {
      const int64_t block = group * blocking_.blocks_per_group + index;
      const std::vector<simd::FoldPiece>& pieces = pieces_[static_cast<size_t>(index)];
      const int32_t* ids = clusters_.ids.data() + block * blocking_.vectors + image * g.out_pixels();
      for (int64_t row = 0; row < g.out_h; ++row) {
        simd::kernels().fold_rows(deltas_[static_cast<size_t>(block)].data(), blocking_.sub_vector_length(),
                                  ids + row * g.out_w, g.out_w, pieces.data(), static_cast<int64_t>(pieces.size()),
                                  padded.data() + row * a.stride_h * columns_ * channels, a.stride_w * channels);
      }
    }
    for (int64_t c = 0; c < channels; ++c) {
      float* plane = dx + (image * g.in_channels + group * channels + c) * g.in_pixels();
      for (int64_t row = 0; row < g.in_h; ++row) {
        const float* source = padded.data() + ((row + a.pad_top) * columns_ + a.pad_left) * channels + c;
        for (int64_t column = 0; column < g.in_w; ++column) plane[row * g.in_w + column] = source[column * channels];
      }
    }
  }

  Workspace& workspace_;
  const Blocking& blocking_;
  const Clusters& clusters_;
  const std::vector<Buffer<float>>& deltas_;
  int64_t height_ = 0, columns_ = 0;
  std::vector<std::vector<simd::FoldPiece>> pieces_;
};

}  // namespace

void backward(Workspace& workspace, const Blocking& blocking, const Clusters& clusters, const float* weights,
              const float* dy, const Gradients& gradients) {
  const ConvGeometry& g = blocking.geometry;
  if (blocking.vectors == 0) {
    if (gradients.weights != nullptr) {
      std::fill_n(gradients.weights, g.out_channels * g.group_in_channels() * g.taps(), 0.0f);
    }
    return;
  }
  std::vector<Strip> strips = cut_strips(blocking, clusters);
  std::vector<std::unique_ptr<StripGradient>> found(strips.size());
  {
    Stopwatch watch(workspace.statistics.gather_ns);
    const PixelDeltas deltas(workspace, g, dy);
    const StripBackward computer(workspace, blocking, clusters, weights, deltas);
    workspace.parallel.run(static_cast<int64_t>(strips.size()), [&](int64_t i) {
      const Strip& strip = strips[static_cast<size_t>(i)];
      found[static_cast<size_t>(i)] = std::make_unique<StripGradient>(computer.run(strip, gradients));
      if (gradients.weights == nullptr) return;
      const StripGradient& own = *found[static_cast<size_t>(i)];
      const int64_t columns = blocking.taps_per_block() * strip.padded;
      StripBackward::for_each_weight(blocking, strip, [&](int64_t l, int64_t column, int64_t index) {
        gradients.weights[index] = own.weights[static_cast<size_t>(l * columns + column)];
      });
    });
  }
  if (gradients.x == nullptr) return;
  Stopwatch watch(workspace.statistics.cluster_ns);
  const std::vector<Buffer<float>> deltas = centroid_deltas(workspace, blocking, clusters, strips, found);
  if (blocking.layout() == Layout::kChannel) {
    write_pixels(workspace, blocking, clusters, deltas, gradients.x);
  } else {
    Folder(workspace, blocking, clusters, deltas).run(gradients.x);
  }
}

}  // namespace reuse
