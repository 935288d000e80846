// What follows a convolution. Kernels of every kind include this, those of an instruction set too: no other header is
// needed here, and no function may be.
#pragma once

namespace reuse {

enum class Activation : int { kNone, kRelu, kClip, kLeakyRelu };

}  // namespace reuse
