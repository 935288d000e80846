// A test registry of a few lines: the library builds and tests itself with nothing but a compiler.
#pragma once

#include <functional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace reuse::testing {

struct Test {
  std::string name;
  std::function<void()> body;
};

inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

struct Registration {
  Registration(const char* name, std::function<void()> body) { tests().push_back({name, std::move(body)}); }
};

// Runs `body`, which must throw an Exception whose message contains `part`.
template <typename Exception, typename Body>
void expect_throw(const std::string& part, const Body& body) {
  try {
    body();
  } catch (const Exception& error) {
    if (std::string(error.what()).find(part) != std::string::npos) return;
    throw std::logic_error("message '" + std::string(error.what()) + "' lacks '" + part + "'");
  }
  throw std::logic_error("nothing was thrown, expected '" + part + "'");
}

}  // namespace reuse::testing

#define TEST(name)                                                               \
  static void name();                                                            \
  static const reuse::testing::Registration registration_of_##name(#name, name); \
  static void name()

#define EXPECT(condition, ...)                                                                  \
  do {                                                                                          \
    if (!(condition)) {                                                                         \
      std::ostringstream message;                                                               \
      message << __FILE__ << ":" << __LINE__ << ": " << #condition << " is false " __VA_ARGS__; \
      throw std::logic_error(message.str());                                                    \
    }                                                                                           \
  } while (false)
