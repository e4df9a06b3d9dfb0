// Peaks with AVX2: what its matrix kernels are made of. A product of bytes takes three instructions.
#include <immintrin.h>

#include "../limits_body.h"

namespace puna {
namespace {

// A round is the same instructions on ten registers that do not wait for each other; assembly, for a compiler would
// move them to memory or see that nobody wants the result.
#define TEN(x) x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7) x(8) x(9)
#define TOUCHED "ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm6", "ymm7", "ymm8", "ymm9", "ymm10", "ymm11"
#define BYTES(r) \
    "vpmaddubsw %0, %0, %%ymm10\n vpmaddwd %0, %%ymm10, %%ymm11\n vpaddd %%ymm11, %%ymm" #r ", %%ymm" #r "\n"
#define WORDS(r) "vpmaddwd %0, %0, %%ymm11\n vpaddd %%ymm11, %%ymm" #r ", %%ymm" #r "\n"
#define FLOATS(r) "vfmadd231ps %0, %0, %%ymm" #r "\n"
#define PEAK(name, steps)                                                                                 \
    void name(int64_t rounds) {                                                                           \
        const __m256i zero = _mm256_setzero_si256();                                                      \
        for (int64_t i = 0; i < rounds; i++) asm volatile(TEN(steps)::"x"(zero) : TOUCHED);               \
    }

PEAK(bytes, BYTES)
PEAK(words, WORDS)
PEAK(floats, FLOATS)

constexpr Peak peaks[] = {
    {"int8", 10 * 64, bytes, always}, {"int16", 10 * 32, words, always}, {"f32", 10 * 16, floats, always}};

}  // namespace

namespace avx2 { extern const LimitKernels limit_kernels = {peaks, 3, read_bytes}; }

}  // namespace puna
