#include "reuse/capi.h"

#include <algorithm>
#include <cstring>
#include <exception>

#include "../cpu/simd/kernels.h"
#include "reuse/statistics_registry.h"

extern "C" {

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

}  // extern "C"
