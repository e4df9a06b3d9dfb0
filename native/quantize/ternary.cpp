// Values of one magnitude: TQ1_0, TQ2_0 and Q1_0 (drawn in src/puna/quants/ternary.py).

#include <cmath>

#include "quantize/codec.h"
#include "quantize/lanes.h"

namespace puna::PUNA_ISA {
namespace {

typedef uint8_t Quants __attribute__((vector_size(W)));

// Stores the largest magnitude as `d` and returns whether it fits; quants are 0, 1, 2 for -d, 0, d.
bool trits_of(const float *x, uint8_t *d, uint8_t *trits) {
    I most[2] = {};
    for (int i = 0; i < 256; i += 2 * W)
        for (int k = 0; k < 2; k++) most[k] = larger(most[k], bits_of(load(x + i + k * W)) & 0x7fffffff);
    most[0] = larger(most[0], most[1]);
    float scale = 0;
    for (int i = 0; i < W; i++) scale = std::fmax(scale, from_bits(most[0])[i]);
    float inverse = scale == 0 ? 0 : 1 / scale;
    if (std::isinf(inverse)) inverse = 0;
    for (int i = 0; i < 256; i += W) {
        const F v = load(x + i) * inverse;
        const Quants q = __builtin_convertvector(1 - (v >= 0.5f) + (v <= -0.5f), Quants);
        std::memcpy(trits + i, &q, sizeof q);
    }
    return store_half(d, scale);
}

// Five (or the `count` that are left) trits to a byte, `size` bytes: a fraction in base 3, rounded up so that the
// digits come out again when it is multiplied by 3.
template <int size, int count> void pack_trits(const uint8_t *trits, uint8_t *to) {
    for (int i = 0; i < size; i++) {
        unsigned digits = 0;
        for (int stripe = 0; stripe < 5; stripe++)
            digits = 3 * digits + (stripe < count ? trits[stripe * size + i] : 0);
        to[i] = uint8_t((digits * 256 + 242) / 243);
    }
}

}  // namespace

bool encode_tq1_0(const float *x, const float *, int64_t blocks, uint8_t *to) {
    bool stored = true;
    for (; blocks--; x += 256, to += 54) {
        alignas(64) uint8_t trits[256];
        stored &= trits_of(x, to + 52, trits);
        pack_trits<32, 5>(trits, to);
        pack_trits<16, 5>(trits + 160, to + 32);
        pack_trits<4, 4>(trits + 240, to + 48);
    }
    return stored;
}

bool encode_tq2_0(const float *x, const float *, int64_t blocks, uint8_t *to) {
    bool stored = true;
    for (; blocks--; x += 256, to += 66) {
        alignas(64) uint8_t trits[256];
        stored &= trits_of(x, to + 64, trits);
        for (int i = 0; i < 64; i++) {
            const uint8_t *t = trits + i / 32 * 128 + i % 32;
            to[i] = uint8_t(t[0] | t[32] << 2 | t[64] << 4 | t[96] << 6);
        }
    }
    return stored;
}

bool encode_q1_0(const float *x, const float *, int64_t blocks, uint8_t *to) {
    bool stored = true;
    for (; blocks--; x += 128, to += 18) {
        float total = -0.0f;
        for (int i = 0; i < 128; i++) total += std::fabs(x[i]);
        stored &= store_half(to, total / 128.0f);
        for (int i = 0; i < 16; i++) {
            unsigned bits = 0;
            for (int j = 0; j < 8; j++) bits |= unsigned(x[8 * i + j] >= 0) << j;
            to[2 + i] = uint8_t(bits);
        }
    }
    return stored;
}

}  // namespace puna::PUNA_ISA
