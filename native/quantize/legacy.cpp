// Blocks of 32 with one scale: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 (drawn in src/puna/quants/legacy.py).

#include "quantize/codec.h"
#include "quantize/lanes.h"

namespace puna::PUNA_ISA {
namespace {

constexpr int size = 32, groups = quantize::chunk / size;

// The largest magnitude of each block.
void largest_magnitudes(const float *x, float *out) {
    alignas(64) float turned[size * W];
    for (int block = 0; block < groups; block += W) {
        by_group(x + block * size, size, W, turned);
        F most[4];
        for (int k = 0; k < 4; k++) most[k] = absolute(load(turned + k * W));
        for (int i = 4; i < size; i++) most[i % 4] = larger(most[i % 4], absolute(load(turned + i * W)));
        store(out + block, larger(larger(most[0], most[1]), larger(most[2], most[3])));
    }
}

// 1 / scale; 0 where that would be infinite.
F reciprocal(F scale) {
    const F inverse = 1.0f / scale;
    return where(inverse > 3.402823466e38f, set(0), where(inverse < -3.402823466e38f, set(0), inverse));
}

}  // namespace

bool encode_q8_0(const float *x, const float *, int64_t blocks, uint8_t *to) {
    typedef int8_t Bytes __attribute__((vector_size(W)));
    alignas(64) float scales[groups], inverses[groups];
    largest_magnitudes(x, scales);
    for (int i = 0; i < groups; i += W) {
        const F scale = load(scales + i) / 127.0f;
        store(scales + i, scale);
        store(inverses + i, reciprocal(scale));
    }
    bool stored = true;
    for (int64_t block = 0; block < blocks; block++, to += 34) {
        stored &= store_half(to, scales[block]);
        for (int i = 0; i < size; i += W) {
            const F v = load(x + block * size + i) * inverses[block];
            const I down = __builtin_convertvector(v, I);
            // ties go away from zero, as C's roundf: v - down is exact, and so is its double
            const I up = __builtin_convertvector(2.0f * (v - floats(down)), I);
            const Bytes quants = __builtin_convertvector(down + up, Bytes);
            std::memcpy(to + 2 + i, &quants, sizeof quants);
        }
    }
    return stored;
}

}  // namespace puna::PUNA_ISA
