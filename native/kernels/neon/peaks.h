// Peaks on 64-bit ARM: loops of one instruction, to measure how often the ports take it. PUNA_ISA names the namespace,
// PUNA_BYTES the instruction for products of bytes, PUNA_BYTES_OPERATIONS what one does.
//
// A round is twelve registers that do not wait for each other; assembly, for a compiler would move them to memory or
// see that nobody wants the result.
#include <arm_neon.h>

#include "../limits_body.h"

namespace puna {
namespace {

#define ONE(name, n, to, from) name " v" #n "." to ", %0." from ", %0." from "\n"
#define FOUR(name, a, b, c, d, to, from) \
    ONE(name, a, to, from) ONE(name, b, to, from) ONE(name, c, to, from) ONE(name, d, to, from)
#define TWELVE(name, to, from) \
    FOUR(name, 0, 1, 2, 3, to, from) FOUR(name, 4, 5, 6, 7, to, from) FOUR(name, 8, 9, 10, 11, to, from)
#define TOUCHED "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11"
#define PEAK(function, name, to, from)                                                                    \
    void function(int64_t rounds) {                                                                       \
        const uint8x16_t zero = vdupq_n_u8(0);                                                            \
        for (int64_t i = 0; i < rounds; i++) asm volatile(TWELVE(name, to, from)::"w"(zero) : TOUCHED);   \
    }

PEAK(bytes, PUNA_BYTES, "4s", "16b")
PEAK(words, "smlal", "4s", "4h")
PEAK(floats, "fmla", "4s", "4s")

constexpr Peak peaks[] = {
    {"int8", 12 * PUNA_BYTES_OPERATIONS, bytes, always},
    {"int16", 12 * 8, words, always},
    {"f32", 12 * 8, floats, always},
};

}  // namespace

namespace PUNA_ISA { extern const LimitKernels limit_kernels = {peaks, 3, read_bytes}; }

}  // namespace puna
