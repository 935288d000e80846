#include "errors.h"

#include "reuse/capi.h"

namespace reuse::capi {

std::string& last_error() {
  thread_local std::string message;
  return message;
}

}  // namespace reuse::capi

extern "C" const char* reuse_last_error(void) { return reuse::capi::last_error().c_str(); }
