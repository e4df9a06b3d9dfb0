// Peaks with NEON: one dot product or multiply-add instruction, as often as the ports take it.
#include "peaks.h"

namespace puna {
namespace {

PEAK(bytes, "sdot", "4s", "16b")
PEAK(words, "smlal", "4s", "4h")
PEAK(floats, "fmla", "4s", "4s")

constexpr Peak peaks[] = {
    {"int8", 12 * 32, bytes, always}, {"int16", 12 * 8, words, always}, {"f32", 12 * 8, floats, always}};

}  // namespace

namespace neon { extern const LimitKernels limit_kernels = {peaks, 3, read_bytes}; }

}  // namespace puna
