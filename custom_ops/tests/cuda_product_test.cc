// The CUDA kernels of tables alone, products and gathering, over all edges of their tiles: small whole numbers, whose
// products and sums are exact in every format, so that every result must be equal to the last bit.
#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "../cuda/pipeline.h"
#include "cuda_support.h"
#include "test.h"

namespace reuse::testing {
namespace {

std::vector<float> whole_numbers(std::mt19937& random, int64_t count, int most) {
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) {
    value = static_cast<float>(static_cast<int>(random() % static_cast<unsigned>(2 * most + 1)) - most);
  }
  return values;
}

CudaProduct product_problem(std::mt19937& random, int32_t length, int32_t width, int32_t rows, int32_t skew) {
  CudaProduct p{};
  p.tiles = 1 + static_cast<int32_t>(random() % 2);
  p.num_blocks = 1 + static_cast<int32_t>(random() % 2);
  p.rows = rows;
  p.length = length;
  p.width = width;
  p.skew = skew;
  for (int32_t b = 0; b < p.num_blocks; ++b) {
    p.counts.push_back(b == 0 ? rows : static_cast<int32_t>(random() % static_cast<unsigned>(rows + 1)));
  }
  p.centroids = whole_numbers(random, int64_t{p.num_blocks} * rows * length, 3);
  // Nobody says what centroids are that do not exist.
  for (int64_t i = 0; i < static_cast<int64_t>(p.centroids.size()); ++i) {
    const int64_t row = i / length % rows, block = i / length / rows;
    if (row >= p.counts[static_cast<size_t>(block)]) p.centroids[static_cast<size_t>(i)] = std::nanf("");
  }
  p.panels = whole_numbers(random, int64_t{p.tiles} * p.num_blocks * length * width, 3);
  return p;
}

void expect_product(const CudaProduct& p, CudaMode mode, bool half_table, BlockOrder order) {
  const std::vector<float> table = run_cuda_product(p, mode, half_table, order);
  const int64_t length = p.length, width = p.width;
  for (int64_t i = 0; i < static_cast<int64_t>(table.size()); ++i) {
    const int64_t column = i % width, row = i / width % p.rows, panel = i / width / p.rows,
                  block = panel % p.num_blocks;
    const float* a = p.centroids.data() + (block * p.rows + row) * length;
    const float* b = p.panels.data() + panel * length * width + column;
    float sum = 0.0f;
    for (int64_t l = 0; l < length; ++l) sum += a[l] * b[l * width];
    const float found = table[static_cast<size_t>(i)];
    const bool is_written = row < p.counts[static_cast<size_t>(block)];
    EXPECT(is_written ? found == sum : std::isnan(found),
           << "L " << length << ", width " << width << ", rows " << p.rows << ", skew " << p.skew << ", mode "
           << static_cast<int>(mode) << ": " << found << " at panel " << panel << ", row " << row << ", column "
           << column << ", expected " << (is_written ? sum : std::numeric_limits<float>::quiet_NaN()));
  }
}

void expect_products(const CudaProduct& p, BlockOrder order) {
  expect_product(p, CudaMode::kStrict, false, order);
  expect_product(p, CudaMode::kTf32, false, order);
  expect_product(p, CudaMode::kTf32, true, order);
  expect_product(p, CudaMode::kHalf, true, order);
}

// Every length up to twice the slices of 16 and 32 elements and one more, aligned and not.
TEST(cuda_products_of_every_depth) {
  for (int32_t length = 1; length <= 65; ++length) {
    std::mt19937 random(static_cast<unsigned>(length));
    const int32_t width = length % 3 == 0 ? 9 : 16, rows = 1 + static_cast<int32_t>(random() % 20);
    expect_products(product_problem(random, length, width, rows, 0), kOrders[length % 3]);
  }
}

// Fewer rows and columns than a tile has, all of them, and more; more pieces than blocks of threads.
TEST(cuda_products_of_every_width) {
  const int32_t rows[] = {1, 127, 128, 129, 270};
  int seed = 0;
  for (const int32_t width : {1, 4, 8, 12, 63, 64, 65, 72, 100, 136, 200}) {
    std::mt19937 random(static_cast<unsigned>(++seed));
    expect_products(product_problem(random, seed % 2 == 0 ? 40 : 33, width, rows[seed % 5], 0), kOrders[seed % 3]);
  }
}

// Memory that begins between multiples of 16 bytes, although rows are multiples of them.
TEST(cuda_products_of_memory_that_is_not_aligned) {
  for (int32_t skew = 1; skew < 8; ++skew) {
    std::mt19937 random(static_cast<unsigned>(skew));
    expect_products(product_problem(random, 48, 72, 140, skew), kOrders[skew % 3]);
  }
}

struct GatherProblem {
  CudaProblem conv;
  int64_t rows;
  std::vector<float> table;
  std::vector<int32_t> ids;
};

// Convolutions of a size with some of the sums' terms: blocks of the group times taps.
GatherProblem gather_problem(std::mt19937& random, int64_t kernel, bool patch, int64_t blocks, int64_t group,
                             int64_t group_channels) {
  ConvAttributes a;
  a.kernel_h = a.kernel_w = kernel;
  a.pad_top = a.pad_left = kernel / 2;
  a.stride_w = 1 + static_cast<int64_t>(random() % 2);
  a.dilation_h = 1 + static_cast<int64_t>(random() % 2);
  a.dilation_w = 1 + static_cast<int64_t>(random() % 2);
  a.group = group;
  a.layout = patch ? Layout::kPatch : Layout::kChannel;
  const int64_t width = patch ? kernel * kernel : 1, in_channels = cuda::divide_up(blocks, width);
  a.sub_vector_length = patch ? cuda::divide_up(width * in_channels, blocks) : 1;
  if (random() % 2 == 0) a.output_order = DataOrder::kNhwc;
  GatherProblem p{};
  p.conv.blocking =
      Blocking::make(ConvGeometry::make(a, 2, in_channels * group, 11, 9 + kernel, group_channels * group));
  p.conv.activation = {Activation::kRelu, 0.0f, 0.0f};
  if (random() % 2 == 0) p.conv.bias = whole_numbers(random, group_channels * group, 3);
  p.rows = 17;
  p.table = whole_numbers(random, p.conv.blocking.num_blocks() * p.rows * p.conv.blocking.table_width(), 3);
  p.ids.resize(static_cast<size_t>(p.conv.blocking.num_blocks() * p.conv.blocking.vectors));
  for (int32_t& id : p.ids) id = static_cast<int32_t>(random() % static_cast<unsigned>(p.rows));
  return p;
}

// What docs/operators.md says of Gather, output by output.
std::vector<float> gathered(const GatherProblem& p) {
  const Blocking& blocking = p.conv.blocking;
  const ConvGeometry& g = blocking.geometry;
  const ConvAttributes& a = g.attributes;
  const int64_t taps = blocking.taps_per_block(), channels = g.out_channels / a.group;
  std::vector<float> y;
  for (int64_t i = 0; i < g.rows() * g.out_channels; ++i) {
    const bool turned = a.output_order == DataOrder::kNhwc;
    const int64_t channel = turned ? i % g.out_channels : i / g.out_pixels() % g.out_channels;
    const int64_t image = i / g.out_pixels() / g.out_channels;
    const int64_t pixel = turned ? i / g.out_channels % g.out_pixels() : i % g.out_pixels();
    float sum = p.conv.bias.empty() ? 0.0f : p.conv.bias[static_cast<size_t>(channel)];
    for (int64_t term = 0; term < blocking.blocks_per_group * taps; ++term) {
      const int64_t block = channel / channels * blocking.blocks_per_group + term / taps, tap = term % taps;
      const int64_t row = pixel / g.out_w * a.stride_h - a.pad_top + tap / a.kernel_w * a.dilation_h;
      const int64_t column = pixel % g.out_w * a.stride_w - a.pad_left + tap % a.kernel_w * a.dilation_w;
      int64_t vector = image * g.out_pixels() + pixel;
      if (a.layout == Layout::kChannel) {
        if (row < 0 || row >= g.in_h || column < 0 || column >= g.in_w) continue;
        vector = (image * g.in_h + row) * g.in_w + column;
      }
      const int64_t id = p.ids[static_cast<size_t>(block * blocking.vectors + vector)];
      const int64_t entry = ((block * p.rows + id) * taps + tap) * channels + channel % channels;
      sum += id < 0 || id >= p.rows ? std::numeric_limits<float>::quiet_NaN() : p.table[static_cast<size_t>(entry)];
    }
    y.push_back(sum < 0.0f ? 0.0f : sum);
  }
  return y;
}

void expect_gathered(const GatherProblem& p, int seed) {
  const std::vector<float> expected = gathered(p);
  for (const CudaMode mode : {CudaMode::kStrict, CudaMode::kHalf}) {
    const std::vector<float> actual = run_cuda_gather(p.conv, mode, p.table, p.rows, p.ids, kOrders[seed % 3]);
    EXPECT(actual.size() == expected.size());
    for (size_t i = 0; i < actual.size(); ++i) {
      EXPECT(actual[i] == expected[i] || (std::isnan(actual[i]) && std::isnan(expected[i])),
             << actual[i] << " at " << i << ", expected " << expected[i] << ", mode " << static_cast<int>(mode)
             << ", seed " << seed);
    }
  }
}

// Sums of fewer terms than a part has, as many, and several parts, of whose last only one term is left; tiles of
// channels that are full, narrow, or whose rows are not aligned.
TEST(cuda_gather_of_every_number_of_terms) {
  struct Size {
    int64_t kernel;
    bool patch;
    int64_t blocks;
  };
  const Size sizes[] = {{1, false, 1},  {1, false, 2},  {3, false, 1},  {1, false, 11}, {1, false, 12},
                        {1, false, 13}, {3, true, 2},   {1, false, 24}, {5, false, 1},  {3, false, 3},
                        {1, false, 36}, {1, false, 37}, {3, false, 5},  {5, true, 50}};
  const int64_t channels[] = {1, 3, 4, 8, 20, 30, 64, 67, 72, 136};
  int seed = 0;
  for (const Size& size : sizes) {
    std::mt19937 random(static_cast<unsigned>(++seed));
    const int64_t group = 1 + seed % 2;
    expect_gathered(gather_problem(random, size.kernel, size.patch, size.blocks, group, channels[seed % 10]), seed);
  }
}

// Only the outputs that read such an id are NaN; padding stays what it is.
TEST(cuda_gather_answers_ids_outside_its_table_with_nan) {
  const int32_t bad[] = {-1, std::numeric_limits<int32_t>::min(), 17, std::numeric_limits<int32_t>::max()};
  for (int seed = 0; seed < 4; ++seed) {
    std::mt19937 random(static_cast<unsigned>(seed));
    GatherProblem p = gather_problem(random, 3, false, 2, 1, seed % 2 == 0 ? 64 : 21);
    p.ids[p.ids.size() / 3] = bad[seed];
    p.ids[p.ids.size() - 1] = bad[seed];
    const std::vector<float> expected = gathered(p);
    const auto is_nan = [](float value) { return std::isnan(value); };
    const auto wrong = std::count_if(expected.begin(), expected.end(), is_nan);
    EXPECT(wrong > 0 && wrong < static_cast<int64_t>(expected.size()) / 2);
    expect_gathered(p, seed);
  }
}

TEST(cuda_gather_refuses_a_table_that_it_cannot_count) {
  std::mt19937 random(1);
  const GatherProblem p = gather_problem(random, 3, false, 1, 1, 67);
  cuda::HostLauncher launcher(BlockOrder::kForwards);
  const cuda::Shape shape = cuda::make_shape(p.conv.blocking);
  const int64_t rows = int64_t{1} << 23;  // of 603 entries
  expect_throw<std::invalid_argument>("more than the CUDA kernels can count", [&] {
    cuda::run_gather<float>(launcher, shape, p.conv.activation, nullptr, rows, nullptr, nullptr, nullptr);
  });
}

// A float16 table takes half the memory of a float32 one: twice as many tiles of channels at once, more clusters.
TEST(cuda_plans_count_the_bytes_of_their_own_entries) {
  std::mt19937 random(1);
  Problem p = channel_problem(random, "learned", 16);
  const ConvAttributes& attributes = p.blocking.geometry.attributes;
  const Blocking blocking = Blocking::make(ConvGeometry::make(attributes, 1, 48, 300, 300, 1024));
  CudaProblem own = cuda_problem(p);
  own.hash.num_hashes = 10;  // rows of tables have room for all 1024 codes
  const auto strict = cuda::StrictFused<float>::plan(blocking, own.hash, p.cluster);
  const auto tf32 = cuda::TensorFused<float>::plan(blocking, own.hash, p.cluster);
  const auto half = cuda::TensorFused<cuda::Half>::plan(blocking, own.hash, p.cluster);
  const cuda::Panels& panels = strict.panels;
  EXPECT(cuda::tiles_at_once(panels, 600, 4) > 1 && cuda::tiles_at_once(panels, 600, 4) < panels.tiles / 2);
  EXPECT(cuda::tiles_at_once(panels, 600, 2) == 2 * cuda::tiles_at_once(panels, 600, 4) ||
         cuda::tiles_at_once(panels, 600, 2) == 2 * cuda::tiles_at_once(panels, 600, 4) + 1);
  EXPECT(tf32.tiles_together > strict.tiles_together && half.tiles_together == tf32.tiles_together);
  const auto bytes = [&](auto t, auto entry) {
    return cuda::bytes_per_row<decltype(t), decltype(entry)>(strict.shape, panels);
  };
  EXPECT(bytes(0.0f, 0.0f) - bytes(0.0f, cuda::Half{}) == int64_t{2} * panels.width() * strict.shape.num_blocks);
  EXPECT(bytes(0.0f, cuda::Half{}) - bytes(cuda::Half{}, cuda::Half{}) ==
         int64_t{2} * strict.shape.length * strict.shape.num_blocks);
}

}  // namespace
}  // namespace reuse::testing
