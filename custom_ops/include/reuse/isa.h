// The instruction set that the CPU kernels are run with.
#pragma once

namespace reuse {

// Returns baseline, avx2 or avx512: the one that REUSE_ISA of the environment names if the machine has it, else the
// best that it has. Throws std::invalid_argument if REUSE_ISA names none of them.
const char* instruction_set();

}  // namespace reuse
