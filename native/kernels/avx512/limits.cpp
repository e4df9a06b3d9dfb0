// Peaks with AVX-512: one dot product or multiply-add instruction, as often as the ports take it.
#include <immintrin.h>

#include "../limits_body.h"

namespace puna {
namespace {

// A round is one instruction on twelve registers that do not wait for each other (two a cycle, five cycles each);
// assembly, for a compiler would move them to memory or see that nobody wants the result.
#define TWELVE(x) x "0\n" x "1\n" x "2\n" x "3\n" x "4\n" x "5\n" x "6\n" x "7\n" x "8\n" x "9\n" x "10\n" x "11\n"
#define TOUCHED "zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7", "zmm8", "zmm9", "zmm10", "zmm11"
#define PEAK(name, instruction)                                                                                        \
    void name(int64_t rounds) {                                                                                        \
        const __m512i zero = _mm512_setzero_si512();                                                                   \
        for (int64_t i = 0; i < rounds; i++) asm volatile(TWELVE(instruction " %0, %0, %%zmm")::"v"(zero) : TOUCHED);  \
    }

PEAK(bytes, "vpdpbusd")
PEAK(words, "vpdpwssd")
PEAK(halves, "vdpbf16ps")
PEAK(floats, "vfmadd231ps")

bool has_bf16() { return __builtin_cpu_supports("avx512bf16"); }

constexpr Peak peaks[] = {{"int8", 12 * 128, bytes, always},
                          {"int16", 12 * 64, words, always},
                          {"bf16", 12 * 64, halves, has_bf16},
                          {"f32", 12 * 32, floats, always}};

}  // namespace

namespace avx512 { extern const LimitKernels limit_kernels = {peaks, 4, read_bytes}; }

}  // namespace puna
