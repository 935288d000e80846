// Text that comes from a model: names and values of any bytes and length.
#pragma once

#include <cstddef>
#include <string>

namespace reuse {

// Length of the UTF-8 character that begins at `text[at]`, or 0 if none does.
inline size_t utf8_length(const std::string& text, size_t at) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const unsigned first = byte(at), second = byte(at + 1);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  // What would be a longer form of a character, half of a surrogate pair, or beyond the last character.
  if (first < 0xC2 || first > 0xF4) return 0;
  if ((first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F)) return 0;
  if ((first == 0xF0 && second < 0x90) || (first == 0xF4 && second > 0x8F)) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return 0;
  }
  return length;
}

// The text as UTF-8: bytes that are none become U+FFFD.
inline std::string utf8(const std::string& text) {
  std::string result;
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_length(text, at);
    result += length == 0 ? "\xEF\xBF\xBD" : text.substr(at, length);
    at += length == 0 ? 1 : length;
  }
  return result;
}

// The text to be read in a message: without control characters, and no more of it than a line or two.
inline std::string readable(const std::string& text) {
  constexpr size_t kLongest = 200;
  std::string result = utf8(text.size() <= kLongest ? text : text.substr(0, kLongest) + "...");
  for (char& c : result) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
  }
  return result;
}

}  // namespace reuse
