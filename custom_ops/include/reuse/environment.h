// Settings from the environment. What is set to something that means nothing is an error, never ignored: who forces a
// setting and mistypes it would otherwise measure another one.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <string>

namespace reuse {

[[noreturn]] inline void refuse_environment(const char* name, const char* text, const std::string& needed) {
  throw std::invalid_argument(std::string(name) + " in the environment is '" + text + "': set it to " + needed +
                              ", or do not set it");
}

// 1 or 0; nothing if the variable is not set. Throws std::invalid_argument for anything else.
inline std::optional<bool> environment_switch(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) return std::nullopt;
  const std::string value(text);
  if (value != "0" && value != "1") refuse_environment(name, text, "0 or 1");
  return value == "1";
}

// A whole number from `least` to `most`; nothing if the variable is not set. Throws std::invalid_argument otherwise.
inline std::optional<int64_t> environment_number(const char* name, int64_t least, int64_t most) {
  const char* text = std::getenv(name);
  if (text == nullptr) return std::nullopt;
  char* end = nullptr;
  const long long value = std::strtoll(text, &end, 10);
  if (end == text || *end != '\0' || value < least || value > most) {
    refuse_environment(name, text, "a whole number from " + std::to_string(least) + " to " + std::to_string(most));
  }
  return value;
}

}  // namespace reuse
