// Peaks with NEON and its products of int8 matrices.
#include "../neon/peaks.h"

namespace puna {
namespace {

PEAK(bytes, "smmla", "4s", "16b")
PEAK(words, "smlal", "4s", "4h")
PEAK(floats, "fmla", "4s", "4s")

constexpr Peak peaks[] = {
    {"int8", 12 * 64, bytes, always}, {"int16", 12 * 8, words, always}, {"f32", 12 * 8, floats, always}};

}  // namespace

namespace neon_i8mm { extern const LimitKernels limit_kernels = {peaks, 3, read_bytes}; }

}  // namespace puna
