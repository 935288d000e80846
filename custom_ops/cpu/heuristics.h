// Sizes of tiles and tasks, with their reasons. Choosing them is separate from computing with them, and no result
// depends on them but for rounding.
#pragma once

#include <algorithm>
#include <cstdint>

namespace reuse {

// Windows of a quantised layer whose sums are formed at once: they and the ids stay in the L1 cache.
constexpr int64_t kTileWindows = 64;

// Of rows of bytes that are looked for, the least share that must be found for the search to be worth what it costs, as
// long as a product of so many multiply-adds; what is found saves the `multiply_adds` of an output pixel.
inline double least_found_share(int64_t multiply_adds) {
  constexpr double kSearch = 12000.0, kMost = 0.9;
  return std::min(kMost, kSearch / static_cast<double>(multiply_adds));
}

// Output channels per tile. Wider tiles spread the gather's address arithmetic over more adds; 64 are four AVX-512
// registers of sums, and table rows that a cache line divides.
constexpr int64_t kTileChannels = 64;

// Bytes of a table that is used well by a core with an L2 cache of 1 MiB: more than the cache, as neighbouring pixels
// of an image use the same few rows. (With ids in random order 768 KiB would be 4% faster, with those of images 5%
// slower.)
constexpr int64_t kCachedTable = int64_t{1536} << 10;

// Bytes of tables that are gathered from together. More blocks at once mean fewer passes over sums in memory, which
// cost more than tables that exceed the L2 cache a little.
constexpr int64_t kTablesAtOnce = int64_t{1280} << 10;

// Where sums are kept from run to run, a part of a tile of pixels is updated as long as no more than this share of the
// vectors that it reads have another row than before, and made anew beyond. To take one entry out and put another one
// in costs 5.5 times as much as to add one to sums in registers. Changes that are scattered pay up to a share of 0.1;
// those of a film are close together, and gain nothing from 0.04 to 0.1 (HED, vtest.avi).
constexpr double kUpdatedShare = 0.06;

// Columns of such a part.
constexpr int64_t kPartColumns = 8;

// The least share of pixels, those that stay and half of those that are updated, for which keeping sums is worth what
// it costs: up to 10% of a layer that changes all over. Where a run finds less and the one after it, too, the node
// keeps none for some runs, at first for one, and for twice as many and one more each time that it finds the same
// again, up to kLongestPause.
constexpr double kLeastGain = 0.3;
constexpr int64_t kLongestPause = 31;

// Output pixels whose sums wait from one set of static tables to the next: 1 MiB of sums of int8 entries.
constexpr int64_t kWaitingPixels = int64_t{1} << 13;

// Static tables that are added at once, of `all_bytes` of a group's blocks. Where pixels are many, passing over sums
// that wait is what costs, and larger sets mean fewer passes. Where they are few, tables hardly stay, and small sets
// leave the cache to those that are fetched for the next time.
inline int64_t choose_static_tables(int64_t pixels, int64_t all_bytes) {
  constexpr int64_t kManyPixels = 4096, kLarge = int64_t{900} << 10, kSmall = int64_t{450} << 10;
  if (pixels >= kWaitingPixels && all_bytes <= kTablesAtOnce) return all_bytes;
  return pixels >= kManyPixels ? kLarge : kSmall;
}

// Bytes of a block's table that are never exceeded as long as there is a narrower strip: bounds the scratch memory of
// inputs with hardly any reuse.
constexpr int64_t kTableBudget = int64_t{32} << 20;

// A tile may be computed in strips of fewer channels, down to one vector: reading ids again for each strip costs less
// than gathering from the L3 cache, or than passing over sums in memory once per set of tables.
constexpr int64_t kNarrowestStrip = 16;

// Bytes of sums that stay in the L2 cache beside tables, so that passing over them costs little.
constexpr int64_t kCachedSums = int64_t{1} << 20;

// Bytes of a table whose rows are outputs as they are: nothing is to be had from wider strips but fewer readings of
// ids, and a table that leaves most of the L2 cache to the output's lines is read faster.
constexpr int64_t kCopiedTable = int64_t{384} << 10;

// Output pixels that a task copies table rows to.
constexpr int64_t kCopiedPixels = 1024;

// Bytes per output channel.
struct BytesPerChannel {
  int64_t all_tables, largest_table, sums;
};

// The widest strip for tables that are copied from, of at least one vector of channels.
inline int64_t choose_copied_channels(int64_t tile_channels, int64_t table_bytes) {
  int64_t channels = tile_channels;
  while (channels % (2 * kNarrowestStrip) == 0 && table_bytes * channels > kCopiedTable) channels /= 2;
  return channels;
}

// The widest strip with which the tables of all blocks are used at once, if sums in memory would be large; else, or if
// there is none, with which the largest table stays in the cache.
inline int64_t choose_strip_channels(int64_t tile_channels, const BytesPerChannel& bytes) {
  const auto widest = [&](int64_t column_bytes, int64_t limit) {
    int64_t channels = tile_channels;
    while (channels >= kNarrowestStrip && (channels % kNarrowestStrip != 0 || column_bytes * channels > limit)) {
      channels /= 2;
    }
    return channels;
  };
  const int64_t at_once = widest(bytes.all_tables, kTablesAtOnce);
  if (at_once >= kNarrowestStrip && bytes.sums * tile_channels > kCachedSums) return at_once;
  const int64_t cached = widest(bytes.largest_table, kCachedTable);
  if (cached >= kNarrowestStrip) return cached;
  return bytes.largest_table * tile_channels <= kTableBudget ? tile_channels : kNarrowestStrip;
}

// Output pixels whose sums are held at once: 64 channels of them fill half of an L1 cache.
constexpr int64_t kTilePixels = 64;

// Rows of the output are cut at this width if they are at least twice as long. Squarer tiles would share more table
// rows, but writing whole long stretches of a channel is worth more: 8% of a layer of 224x224.
constexpr int64_t kTileColumns = 64;

// Tiles of static layers have an even number of rows, as the pixels of two rows are summed together. Their rows are cut
// at twice that width: long stretches are worth more than sums that stay in the L1 cache, 10% of a layer of 224x224.
constexpr int64_t kStaticRows = 2;
constexpr int64_t kStaticColumns = 2 * kTileColumns;

// Pixels of such a tile at most: of rows that are too short to be cut.
constexpr int64_t kMostStaticPixels = 2 * kStaticRows * kStaticColumns;

// The same for a pixel-major output, where long stretches are worth nothing: 4 rows of 16 share more table rows.
constexpr int64_t kTileColumnsPixelMajor = 16;

// Parallel loops over many small pieces are cut into about this many tasks: enough to share out between the threads of
// a large machine, few enough that starting them costs nothing.
constexpr int64_t kTasksPerLoop = 64;

// Centroids that one task multiplies, of `total` in the loop: few enough that threads finish together, up to what a
// strip of weights is worth reading for, and a multiple of the register blocks of all instruction sets.
inline int64_t task_centroids(int64_t total) {
  constexpr int64_t kRegisterBlock = 12, kFewest = 24, kMost = 96, kTasks = 16;
  const int64_t share = (total + kTasks - 1) / kTasks;
  return std::clamp((share + kRegisterBlock - 1) / kRegisterBlock * kRegisterBlock, kFewest, kMost);
}

// From this many blocks on, a task hashes and numbers a whole block, reading its tiles once. Fewer blocks would leave
// threads idle: then hashing is shared out by stretches of vectors, and only the numbering goes by block.
constexpr int64_t kBlocksToShareOut = 16;

// From this many tasks on, a task hashes and numbers all blocks of a few cache lines of a pixel-major input.
constexpr int64_t kPixelTasksToShareOut = 4;

// Bytes of centroids that a run holds at once, about: those of an input whose vectors do not overlap are as many as its
// own. A small input's blocks are not worth going through in ranges.
inline int64_t choose_centroid_bytes(int64_t input_bytes) { return std::max(input_bytes, int64_t{4} << 20); }

// Ranges of blocks, each of up to `block_bytes` of centroids, that fit such memory one by one. A range has eight blocks
// or more, so that several threads have work.
inline int64_t choose_block_ranges(int64_t num_blocks, int64_t block_bytes, int64_t room) {
  constexpr int64_t kFewestBlocks = 8;
  const int64_t wanted = (num_blocks * block_bytes + room - 1) / room;
  return std::clamp<int64_t>(wanted, 1, std::max<int64_t>(1, num_blocks / kFewestBlocks));
}

// Channels of a pixel-major input that such a task reads at most.
constexpr int64_t kMostPixelChannels = 48;

// Elements of windows that are hashed, numbered and summed in one pass, block by block, however few the blocks are. It
// takes little more than half the time of unfolding twice; more than two threads would be needed to make up for that,
// and the sums of so short vectors fall into four tasks at most.
constexpr int64_t kOnePassElements = 64;

// Channels of a pixel-major input whose centroids one task forms: two cache lines, which the processor fetches
// together.
constexpr int64_t kChannelsTogether = 32;

// Backward: bytes of a block's sums by cluster that are added to in a core's L2 cache.
constexpr int64_t kCachedDeltas = int64_t{1} << 20;

// Backward: clusters whose sums are packed for one product with their centroids.
constexpr int64_t kClustersAtOnce = 256;

// Backward: output channels of a strip of a block, each of `bytes` of sums; a strip is one task. Of few blocks there
// are to be at least four strips, as far as whole vectors allow it.
inline int64_t choose_sum_channels(int64_t padded_channels, int64_t bytes, int64_t num_blocks) {
  constexpr int64_t kFewestStrips = 4;
  int64_t channels = std::min<int64_t>(kTileChannels, padded_channels);
  const auto strips = [&] { return num_blocks * ((padded_channels + channels - 1) / channels); };
  while (channels % (2 * kNarrowestStrip) == 0 && (bytes * channels > kCachedDeltas || strips() < kFewestStrips)) {
    channels /= 2;
  }
  return channels;
}

// Vectors of a block that one task hashes in the latter case: about a sixteenth, whole tiles, and enough of them to
// make up for the task's buffers.
inline int64_t task_vectors(int64_t vectors) {
  constexpr int64_t kFewest = 256, kMost = 2048, kTasks = 16;
  return std::clamp(vectors / kTasks / kFewest * kFewest, kFewest, kMost);
}

}  // namespace reuse
