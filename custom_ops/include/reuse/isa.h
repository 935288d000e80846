// The instruction set that the CPU kernels are run with.
#pragma once

namespace reuse {

// Returns baseline, avx2 or avx512, on 64-bit ARM neon: the one that REUSE_ISA of the environment names if the machine
// has it, else the best that it has. Throws std::invalid_argument if REUSE_ISA names none that processors of its kind
// may have.
const char* instruction_set();

}  // namespace reuse
