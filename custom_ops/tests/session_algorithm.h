// Scope session as the papers have it, one vector after the other.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>

#include "../cpu/tile.h"
#include "support.h"

namespace reuse::testing {

// Algorithm 1 of the training paper with CR = 1, as docs/operators.md tells it.
class Algorithm {
 public:
  Algorithm(const Blocking& blocking, int64_t limit)
      : places_(static_cast<size_t>(blocking.num_blocks())), kept_(places_.size()), limit_(limit) {}

  // The clusters of a run of Cluster, which the next run knows.
  Clusters run(Allocator& allocator, const Problem& p, const std::vector<int64_t>& codes) {
    Clusters result(allocator, p.blocking);
    known = 0;
    for (size_t b = 0; b < places_.size(); ++b) {
      BlockClusters& own = result.blocks.emplace_back(allocator);
      const std::vector<std::vector<float>> centroids = run_block(p, b, codes, result.ids.data());
      own.count = static_cast<int64_t>(centroids.size());
      for (const auto& centroid : centroids) {
        for (const float value : centroid) {
          own.centroids.resize(own.centroids.size() + 1);
          own.centroids[own.centroids.size() - 1] = value;
        }
      }
    }
    return result;
  }

  int64_t count = 0;
  int64_t known = 0;  // vectors of the last run

 private:
  using Vector = std::vector<float>;

  std::vector<Vector> run_block(const Problem& p, size_t b, const std::vector<int64_t>& codes, int32_t* all_ids) {
    const int64_t length = p.blocking.sub_vector_length(), vectors = p.blocking.vectors;
    std::vector<Vector> centroids = kept_[b];
    std::map<int64_t, size_t> fresh;
    std::vector<std::vector<Vector>> members(centroids.size());
    const auto limit = static_cast<size_t>(
        std::max(1.0, std::ceil(static_cast<double>(p.cluster.capacity) * static_cast<double>(vectors))));
    for (int64_t v = 0; v < vectors; ++v) {
      const int64_t code = codes[b * static_cast<size_t>(vectors) + static_cast<size_t>(v)];
      Vector own(static_cast<size_t>(length));
      Vector tile(static_cast<size_t>(length * kTileVectors));
      load_tile(p.blocking, p.x.data(), static_cast<int64_t>(b), v, 1, tile.data());
      for (int64_t l = 0; l < p.blocking.block_length(static_cast<int64_t>(b)); ++l) {
        own[static_cast<size_t>(l)] = tile[static_cast<size_t>(l * kTileVectors)];
      }
      const bool sharable =
          p.cluster.verify || std::all_of(own.begin(), own.end(), [](float value) { return std::isfinite(value); });
      const auto same = [&](const Vector& other) {
        return !p.cluster.verify || std::memcmp(other.data(), own.data(), own.size() * sizeof(float)) == 0;
      };
      const auto place = places_[b].find(code);
      const auto found = fresh.find(code);
      size_t id = members.size();
      if (sharable && place != places_[b].end() && same(kept_[b][place->second])) {
        id = place->second;
        ++known;
      } else if (sharable && place == places_[b].end() && found != fresh.end() && same(members[found->second][0])) {
        id = found->second;
      } else if (sharable && place == places_[b].end() && found == fresh.end() && fresh.size() < limit) {
        fresh[code] = id;
      }
      if (id == members.size()) members.emplace_back();
      members[id].push_back(own);
      all_ids[b * static_cast<size_t>(vectors) + static_cast<size_t>(v)] = static_cast<int32_t>(id);
    }
    for (size_t c = centroids.size(); c < members.size(); ++c) centroids.push_back(centroid_of(p, members[c]));
    std::map<size_t, int64_t> joining;
    for (const auto& [code, id] : fresh) joining[id] = code;
    for (const auto& [id, code] : joining) {
      if (count >= limit_) break;
      places_[b][code] = kept_[b].size();
      kept_[b].push_back(centroids[id]);
      ++count;
    }
    return centroids;
  }

  static Vector centroid_of(const Problem& p, const std::vector<Vector>& members) {
    if (p.cluster.verify) return members[0];
    const double n = static_cast<double>(members.size());
    std::vector<double> sums(members[0].size());
    double norms = 0.0;
    for (const Vector& member : members) {
      double squares = 0.0;
      for (const float value : member) squares += static_cast<double>(value) * value;
      const double norm = p.cluster.metric == Metric::kAngular && std::isfinite(squares) ? std::sqrt(squares) : 1.0;
      norms += norm;
      for (size_t l = 0; l < sums.size(); ++l) sums[l] += member[l] / (norm > 0.0 ? norm : 1.0);
    }
    Vector result(sums.size());
    for (size_t l = 0; l < sums.size(); ++l) result[l] = static_cast<float>(sums[l] / n * (norms / n));
    return result;
  }

  std::vector<std::map<int64_t, size_t>> places_;
  std::vector<std::vector<Vector>> kept_;
  int64_t limit_;
};

}  // namespace reuse::testing
