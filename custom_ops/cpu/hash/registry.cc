#include <stdexcept>
#include <string>

#include "families.h"

namespace reuse {

const std::vector<const HashFamily*>& hash_families() {
  static const std::vector<const HashFamily*> families{&sign_family(), &learned_family(), &exact_family()};
  return families;
}

const HashFamily& find_hash_family(const std::string& name) {
  std::string known;
  for (const HashFamily* family : hash_families()) {
    if (family->name() == name) return *family;
    known += (known.empty() ? "" : ", ") + family->name();
  }
  throw std::invalid_argument("family is '" + name + "', must be one of " + known);
}

void require_parameter(const char* family, const char* name, int64_t size, int64_t expected) {
  if (size == expected) return;
  const std::string found = size < 0 ? "is missing" : "has " + std::to_string(size) + " elements";
  throw std::invalid_argument("family " + std::string(family) + ": parameter " + name + " " + found + ", needs " +
                              std::to_string(expected));
}

void require_num_hashes(const char* family, int64_t num_hashes, int64_t largest) {
  if (num_hashes >= 1 && num_hashes <= largest) return;
  throw std::invalid_argument("family " + std::string(family) + ": num_hashes is " + std::to_string(num_hashes) +
                              ", must be 1 to " + std::to_string(largest));
}

}  // namespace reuse
