// The launcher of what is compiled for: a GPU, or, where no nvcc compiles, the host, which is for tests.
#pragma once

#ifdef __CUDACC__
#include "device_launcher.h"
#else
#include "host_launcher.h"
#endif

namespace reuse::cuda {

#ifdef __CUDACC__
inline DeviceLauncher make_launcher(const Execution& execution) { return {execution, nullptr}; }
#else
inline HostLauncher make_launcher(const Execution&) { return HostLauncher(HostLauncher::Order::kShuffled); }
#endif

}  // namespace reuse::cuda
