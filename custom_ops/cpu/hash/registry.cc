#include <stdexcept>
#include <string>

#include "families.h"
#include "reuse/text.h"

namespace reuse {

const std::vector<const HashFamily*>& hash_families() {
  static const std::vector<const HashFamily*> families{&sign_family(), &learned_family(), &exact_family()};
  return families;
}

const HashFamily& find_hash_family(const std::string& name) {
  std::string known;
  for (const HashFamily* family : hash_families()) {
    if (name == family->name()) return *family;
    known += std::string(known.empty() ? "" : ", ") + family->name();
  }
  throw std::invalid_argument("family is '" + readable(name) + "', must be one of " + known);
}

void HashFamily::check(const HashParameterSizes& sizes, const HashShape& shape) const {
  const std::string family = std::string("family ") + name() + ": ";
  if (max_hashes() > 0 && (shape.num_hashes < 1 || shape.num_hashes > max_hashes())) {
    throw std::invalid_argument(family + "num_hashes is " + std::to_string(shape.num_hashes) + ", must be 1 to " +
                                std::to_string(max_hashes()));
  }
  const HashParameterSizes needed = required(shape), possible = optional(shape);
  const auto check_one = [&](const char* parameter, int64_t HashParameterSizes::* member) {
    const int64_t size = sizes.*member;
    const bool must = needed.*member >= 0, may = possible.*member >= 0 && size >= 0;
    if (!must && !may) return;
    const int64_t expected = must ? needed.*member : possible.*member;
    if (size == expected) return;
    const std::string found = size < 0 ? "is missing" : "has " + std::to_string(size) + " elements";
    throw std::invalid_argument(family + "parameter " + parameter + " " + found + ", needs " +
                                std::to_string(expected));
  };
  check_one("projections", &HashParameterSizes::projections);
  check_one("thresholds", &HashParameterSizes::thresholds);
  check_one("coordinates", &HashParameterSizes::coordinates);
}

}  // namespace reuse
