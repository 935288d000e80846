// How C functions fail.
#pragma once

#include <exception>
#include <string>

namespace reuse::capi {

// What the last call of this thread that failed has to say.
std::string& last_error();

// Runs `body`; returns what `failed` is after an exception, whose message is kept.
template <typename Result, typename Body>
Result guarded(Result failed, const Body& body) {
  try {
    return body();
  } catch (const std::exception& error) {
    last_error() = error.what();
    return failed;
  }
}

}  // namespace reuse::capi
