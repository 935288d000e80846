// The operators as ONNX Runtime takes them.
#pragma once

#include <string>

#include "api.h"

namespace reuse::ort {

// Makes the domain of all operators, which lives as long as the process. Statistics are filed under `session`. With
// `stages_timed`, CUDA's ReuseConv times its stages. The runtime's function table must be set.
CustomOpDomain* make_domain(const std::string& session, bool stages_timed);

}  // namespace reuse::ort
