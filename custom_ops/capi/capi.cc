#include "reuse/capi.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <vector>

#include "../cpu/simd/kernels.h"
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

const char* reuse_isa(void) { return reuse::simd::kernels().name; }

int64_t reuse_statistics_json(const char* session_tag, char* buffer, int64_t size) {
  try {
    const std::string json = reuse::StatisticsRegistry::instance().to_json(session_tag);
    const int64_t needed = static_cast<int64_t>(json.size()) + 1;
    if (buffer != nullptr && size > 0) {
      const size_t copied = static_cast<size_t>(std::min(needed, size) - 1);
      std::memcpy(buffer, json.data(), copied);
      buffer[copied] = '\0';
    }
    return needed;
  } catch (const std::exception&) {
    return -1;
  }
}

void reuse_statistics_reset(const char* session_tag) {
  try {
    reuse::StatisticsRegistry::instance().reset(session_tag);
  } catch (const std::exception&) {
    return;  // out of memory: the statistics stay as they are
  }
}

void reuse_statistics_forget(const char* session_tag) {
  try {
    reuse::StatisticsRegistry::instance().forget(session_tag);
  } catch (const std::exception&) {
    return;  // out of memory: they stay known
  }
}

int32_t reuse_fit_trees(const float* vectors, int64_t count, int64_t length, const float* importance, int64_t num_trees,
                        const int64_t* depths, const int64_t* leaves, int32_t* coordinates, float* thresholds) {
  try {
    std::vector<reuse::TreeShape> shapes(num_trees);
    for (int64_t i = 0; i < num_trees; ++i) shapes[i] = {depths[i], leaves[i]};
    reuse::fit_trees(vectors, count, length, importance, shapes.data(), num_trees, coordinates, thresholds);
    return 0;
  } catch (const std::exception&) {
    return -1;
  }
}

}  // extern "C"
