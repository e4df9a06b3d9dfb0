// Peaks with AVX2: what its matrix kernels are made of. A product of bytes takes three instructions.
#include "../limits_body.h"

namespace puna {
namespace {

// A round is the same instructions on ten registers that do not wait for each other; assembly, for a compiler would move
// them to memory or see that nobody wants the result.
#define TEN(x) x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7) x(8) x(9)
#define TOUCHED "ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm6", "ymm7", "ymm8", "ymm9", "ymm10", "ymm11", "ymm12", "ymm13"
#define BYTES(r)                                                                                                         \
    "vpmaddubsw %%ymm15, %%ymm14, %%ymm10\n vpmaddwd %%ymm15, %%ymm10, %%ymm11\n vpaddd %%ymm11, %%ymm" #r ", %%ymm" #r "\n"
#define WORDS(r) "vpmaddwd %%ymm15, %%ymm14, %%ymm11\n vpaddd %%ymm11, %%ymm" #r ", %%ymm" #r "\n"
#define FLOATS(r) "vfmadd231ps %%ymm14, %%ymm15, %%ymm" #r "\n"

void bytes(int64_t rounds) {
    for (int64_t i = 0; i < rounds; i++) asm volatile(TEN(BYTES)::: TOUCHED);
}
void words(int64_t rounds) {
    for (int64_t i = 0; i < rounds; i++) asm volatile(TEN(WORDS)::: TOUCHED);
}
void floats(int64_t rounds) {
    asm volatile("vxorps %%xmm14, %%xmm14, %%xmm14\n vxorps %%xmm15, %%xmm15, %%xmm15\n" ::: "ymm14", "ymm15");
    for (int64_t i = 0; i < rounds; i++) asm volatile(TEN(FLOATS)::: TOUCHED);
}

constexpr Peak peaks[] = {
    {"int8", 10 * 64, bytes, always}, {"int16", 10 * 32, words, always}, {"f32", 10 * 16, floats, always}};

}  // namespace

namespace avx2 { extern const LimitKernels limit_kernels = {peaks, 3, read_bytes}; }

}  // namespace puna
