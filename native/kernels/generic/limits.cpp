// Peaks of what any compiler makes of vectors of 16 bytes: f32 only, a multiplication and an addition.
#include "../limits_body.h"

namespace puna {
namespace {

typedef float Four __attribute__((vector_size(16)));

volatile float unused;

// Twelve chains of their own hide the latency of both instructions, and fit 16 registers with the two constants.
void multiply_add(int64_t rounds) {
    const float seed = unused;
    const Four x = {0.5f, 0.5f, 0.5f, 0.5f}, y = {seed, seed, seed, seed};
    Four a = y, b = y, c = y, d = y, e = y, f = y, g = y, h = y, i = y, j = y, k = y, l = y;
    for (int64_t round = 0; round < rounds; round++) {
        a = a * x + y, b = b * x + y, c = c * x + y, d = d * x + y, e = e * x + y, f = f * x + y;
        g = g * x + y, h = h * x + y, i = i * x + y, j = j * x + y, k = k * x + y, l = l * x + y;
        // So that the chains stay twelve: equal ones would become one.
#if defined(__x86_64__)
        asm volatile("" : "+x"(a), "+x"(b), "+x"(c), "+x"(d), "+x"(e), "+x"(f));
        asm volatile("" : "+x"(g), "+x"(h), "+x"(i), "+x"(j), "+x"(k), "+x"(l));
#elif defined(__aarch64__)
        asm volatile("" : "+w"(a), "+w"(b), "+w"(c), "+w"(d), "+w"(e), "+w"(f));
        asm volatile("" : "+w"(g), "+w"(h), "+w"(i), "+w"(j), "+w"(k), "+w"(l));
#else
        asm volatile("" : "+m"(a), "+m"(b), "+m"(c), "+m"(d), "+m"(e), "+m"(f));
#endif
    }
    const Four sum = a + b + c + d + e + f + g + h + i + j + k + l;
    unused = sum[0] == 1e30f ? 0.0f : seed;
}

constexpr Peak peaks[] = {{"f32", 12 * 8, multiply_add, always}};

}  // namespace

namespace generic { extern const LimitKernels limit_kernels = {peaks, 1, read_bytes}; }

}  // namespace puna
