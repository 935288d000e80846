#include "reuse/capi.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "errors.h"
#include "reuse/isa.h"
#include "reuse/statistics_registry.h"
#include "reuse/tree_fit.h"

extern "C" {

int32_t reuse_has_cuda(void) {
#ifdef REUSE_HAVE_CUDA
  return 1;
#else
  return 0;
#endif
}

const char* reuse_version(void) { return REUSE_VERSION; }

const char* reuse_isa(void) {
  return reuse::capi::guarded<const char*>(nullptr, [] { return reuse::instruction_set(); });
}

int64_t reuse_statistics_json(const char* session_tag, char* buffer, int64_t size) {
  return reuse::capi::guarded<int64_t>(-1, [&] {
    const std::string json = reuse::StatisticsRegistry::instance().to_json(session_tag);
    const int64_t needed = static_cast<int64_t>(json.size()) + 1;
    if (buffer != nullptr && size > 0) {
      const size_t copied = static_cast<size_t>(std::min(needed, size) - 1);
      std::memcpy(buffer, json.data(), copied);
      buffer[copied] = '\0';
    }
    return needed;
  });
}

void reuse_statistics_reset(const char* session_tag) {
  // Out of memory, the statistics stay as they are.
  reuse::capi::guarded<int32_t>(-1, [&] {
    reuse::StatisticsRegistry::instance().reset(session_tag);
    return 0;
  });
}

void reuse_statistics_forget(const char* session_tag) {
  // Out of memory, they stay known.
  reuse::capi::guarded<int32_t>(-1, [&] {
    reuse::StatisticsRegistry::instance().forget(session_tag);
    return 0;
  });
}

void reuse_reset_clusters(const char* session_tag) {
  // Out of memory, some of them stay known.
  reuse::capi::guarded<int32_t>(-1, [&] {
    reuse::StatisticsRegistry::instance().reset_clusters(session_tag);
    return 0;
  });
}

int32_t reuse_fit_trees(const float* vectors, int64_t count, int64_t length, const float* importance, int64_t num_trees,
                        const int64_t* depths, const int64_t* leaves, int32_t* coordinates, float* thresholds) {
  return reuse::capi::guarded<int32_t>(-1, [&] {
    if (num_trees < 0) throw std::invalid_argument("the number of trees is below 0");
    std::vector<reuse::TreeShape> shapes(num_trees);
    for (int64_t i = 0; i < num_trees; ++i) shapes[i] = {depths[i], leaves[i]};
    reuse::fit_trees(vectors, count, length, importance, shapes.data(), num_trees, coordinates, thresholds);
    return 0;
  });
}

}  // extern "C"
