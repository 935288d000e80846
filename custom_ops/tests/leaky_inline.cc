// What check_symbols.cmake must find: an inline function and an initialiser that outlive the file for one instruction
// set.
namespace reuse {
namespace simd {

__attribute__((noinline)) inline int shared(int value) { return value + 1; }

namespace leaky {
int seed();
extern const int kSeed;
const int kSeed = shared(seed());
}  // namespace leaky
}  // namespace simd
}  // namespace reuse
