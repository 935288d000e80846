// ReuseConv of scope session.
#pragma once

#include "reuse/plan.h"

namespace reuse {

void reuse_conv_of_session(const ReusePlan& plan, ReuseState& state, const Blocking& blocking, Workspace& workspace,
                           const float* x, float* y);

}  // namespace reuse
