#include "session_clusters.h"

#include <memory>
#include <utility>

#include "block_numbering.h"
#include "heuristics.h"
#include "reuse/arena.h"
#include "simd/kernels.h"
#include "stopwatch.h"
#include "tile.h"
#include "tile_hasher.h"
#include "vector_sums.h"

namespace reuse {
namespace {

// Numbers one block's vectors, tile by tile. Values are read only where they are needed: of a tile whose vectors all
// have kept clusters, nothing but the codes is looked at, unless bits are to be compared.
class SessionNumbering {
 public:
  SessionNumbering(Allocator& allocator, const Blocking& blocking, const ClusterAttributes& attributes,
                   const KeptRun& run, KnownIds known, int64_t block)
      : verify_(attributes.verify),
        length_(blocking.sub_vector_length()),
        run_(run),
        kept_(run.block(block)),
        ids_by_place_(known == KnownIds::kRows ? kept_.rows.data() : nullptr),
        numbering_(allocator, blocking, attributes, block),
        sums_(allocator, attributes.metric, length_) {
    numbering_.start_unit();
  }

  // `finite` is null where `verify` asks for no such thing; `read()` returns the tile's values.
  template <typename Read>
  void add(int64_t count, const int64_t* codes, const uint8_t* finite, const Read& read, int32_t* ids) {
    Tile tile{nullptr, 0, 0, count};
    if (verify_) tile = read();
    for (int64_t p = 0; p < count; ++p) {
      const bool sharable = verify_ || finite[p] != 0;
      const int32_t place = sharable ? kept_.places.find(codes[p]) : -1;
      if (place >= 0 && (!verify_ || has_bits(tile, p, run_.pool().centroid(kept_.rows[static_cast<size_t>(place)])))) {
        ids[p] = ids_by_place_ == nullptr ? place : ids_by_place_[place];
        ++vectors_known_;
        continue;
      }
      if (tile.values == nullptr) tile = read();
      // A code whose kept member has other bits is closed to all others.
      ids[p] = -1 - number(tile, p, codes[p], sharable && place < 0);
    }
  }

  NewClusters finish() {
    BlockClusters own = numbering_.finish();
    if (!verify_) {
      own.centroids.resize(static_cast<size_t>(own.count * length_));
      for (int64_t c = 0; c < own.count; ++c) {
        sums_.write(c, own.members[static_cast<size_t>(c)], own.centroids.data() + c * length_);
      }
    }
    return {std::move(own), std::move(codes_), std::move(shared_), vectors_known_};
  }

 private:
  int32_t number(const Tile& tile, int64_t vector, int64_t code, bool sharable) {
    const int64_t before = numbering_.count(), shared_before = numbering_.shared();
    const int32_t id = numbering_.number(tile, vector, code, sharable);
    if (numbering_.count() > before) {
      codes_.push_back(code);
      shared_.push_back(numbering_.shared() > shared_before ? 1 : 0);
    }
    if (verify_) return id;
    sums_.make_room(numbering_.count());
    sums_.add(tile, vector, id);
    return id;
  }

  bool verify_;
  int64_t length_;
  const KeptRun& run_;
  const KeptBlock& kept_;
  const int32_t* ids_by_place_;
  BlockNumbering numbering_;
  VectorSums sums_;
  std::vector<int64_t> codes_;
  std::vector<uint8_t> shared_;
  int64_t vectors_known_ = 0;
};

// Numbers all blocks in parallel; `number(block, numbering, ids)` adds a block's vectors.
template <typename Number>
SessionClusters number_blocks(Workspace& workspace, const Blocking& blocking, const ClusterAttributes& attributes,
                              const KeptRun& run, KnownIds known, const Number& number) {
  const int64_t count = blocking.num_blocks();
  SessionClusters result(workspace);
  result.ids.resize(static_cast<size_t>(count * blocking.vectors));
  std::vector<std::unique_ptr<NewClusters>> done(static_cast<size_t>(count));
  workspace.parallel.run(count, [&](int64_t block) {
    SessionNumbering numbering(workspace, blocking, attributes, run, known, block);
    number(block, numbering, result.ids.data() + block * blocking.vectors);
    done[static_cast<size_t>(block)] = std::make_unique<NewClusters>(numbering.finish());
  });
  RunStatistics& statistics = workspace.statistics;
  count_vectors(statistics, blocking);
  result.blocks.reserve(done.size());
  for (const auto& own : done) {
    statistics.clusters += own->clusters.count;
    statistics.guarded += own->clusters.guarded;
    statistics.known += own->known;
    result.blocks.push_back(std::move(*own));
  }
  return result;
}

// Of vectors that are hashed; `finite` [B, V] is null where values are to be looked at.
SessionClusters number_hashed(Workspace& workspace, const Blocking& blocking, const ClusterAttributes& attributes,
                              const KeptRun& run, KnownIds known, const float* x, const int64_t* codes,
                              const uint8_t* finite) {
  return number_blocks(
      workspace, blocking, attributes, run, known, [&](int64_t block, SessionNumbering& numbering, int32_t* ids) {
        Buffer<float> values(workspace, static_cast<size_t>(blocking.sub_vector_length() * kTileVectors));
        uint8_t own_finite[kTileVectors];
        for_tiles(0, blocking.vectors, [&](int64_t first, int64_t count) {
          const int64_t offset = block * blocking.vectors + first;
          const auto read = [&] { return load_tile(blocking, x, block, first, count, values.data()); };
          if (finite != nullptr || attributes.verify) {
            const uint8_t* of_tile = finite == nullptr ? nullptr : finite + offset;
            return numbering.add(count, codes + offset, of_tile, read, ids + first);
          }
          const Tile tile = read();
          simd::kernels().all_finite(tile.values, tile.stride, tile.length, count, own_finite);
          numbering.add(count, codes + offset, own_finite, [&] { return tile; }, ids + first);
        });
      });
}

}  // namespace

SessionClusters hash_and_cluster(Workspace& workspace, const Blocking& blocking, const Encoder& encoder,
                                 const ClusterAttributes& attributes, const KeptRun& run, KnownIds known,
                                 const float* x) {
  Stopwatch watch(workspace.statistics.hash_ns);
  if (!hashes_by_block(blocking)) {
    const Placed<CodeMemory> memory(workspace, blocking);
    hash_by_stretches(workspace, blocking, encoder, x, memory->codes, memory->finite);
    return number_hashed(workspace, blocking, attributes, run, known, x, memory->codes, memory->finite);
  }
  return number_blocks(workspace, blocking, attributes, run, known,
                       [&](int64_t block, SessionNumbering& numbering, int32_t* ids) {
                         const Placed<TileMemory> memory(workspace, blocking.sub_vector_length(), encoder);
                         int64_t codes[kTileVectors];
                         uint8_t finite[kTileVectors];
                         for_tiles(0, blocking.vectors, [&](int64_t first, int64_t count) {
                           const Tile tile = load_tile(blocking, x, block, first, count, memory->values);
                           hash_tile(encoder, tile, block, memory->scratch, codes, finite);
                           numbering.add(count, codes, finite, [&] { return tile; }, ids + first);
                         });
                       });
}

SessionClusters cluster(Workspace& workspace, const Blocking& blocking, const ClusterAttributes& attributes,
                        const KeptRun& run, KnownIds known, const float* x, const int64_t* codes) {
  Stopwatch watch(workspace.statistics.cluster_ns);
  return number_hashed(workspace, blocking, attributes, run, known, x, codes, nullptr);
}

}  // namespace reuse
