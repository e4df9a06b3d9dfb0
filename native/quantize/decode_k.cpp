// Values of the K types (drawn in src/puna/quants/k.py). Bits lie in stripes: within a stretch of bytes, the lowest
// field of every byte comes first, then the next.

#include "quantize/unpack.h"

namespace puna::PUNA_ISA {
namespace {

// Eight scales and minimums of 6 bits in 12 bytes.
void scales_and_mins(const uint8_t *from, uint8_t *scale, uint8_t *minimum) {
    for (int i = 0; i < 4; i++) {
        scale[i] = from[i] & 63;
        minimum[i] = from[i + 4] & 63;
        scale[i + 4] = uint8_t((from[i + 8] & 15) | from[i] >> 6 << 4);
        minimum[i + 4] = uint8_t(from[i + 8] >> 4 | from[i + 4] >> 6 << 4);
    }
}

}  // namespace

void decode_q2_k(const uint8_t *from, int64_t blocks, float *to) {
    for (; blocks--; from += 84, to += 256) {
        const float d = half_at(from + 80), least = half_at(from + 82);
        float scale[16], minimum[16];
        for (int g = 0; g < 16; g++) scale[g] = d * float(from[g] & 15), minimum[g] = least * float(from[g] >> 4);
        for (int i = 0; i < 64; i += W) {
            const I four = load_ints<uint8_t>(from + 16 + i);
            for (int j = 0; j < 4; j++) {
                const int at = i / 32 * 128 + i % 32 + 32 * j;
                store(to + at, floats(four >> 2 * j & 3) * scale[at / 16] - minimum[at / 16]);
            }
        }
    }
}

void decode_q3_k(const uint8_t *from, int64_t blocks, float *to) {
    for (; blocks--; from += 110, to += 256) {
        const float d = half_at(from + 108);
        const uint8_t *packed = from + 96;
        float scale[16];
        for (int g = 0; g < 16; g++)
            scale[g] = d * float(((packed[g % 8] >> g / 8 * 4 & 15) | (packed[8 + g % 4] >> g / 4 * 2 & 3) << 4) - 32);
        for (int i = 0; i < 64; i += W) {
            const I four = load_ints<uint8_t>(from + 32 + i), high = load_ints<uint8_t>(from + i % 32) >> i / 32 * 4;
            for (int j = 0; j < 4; j++) {
                const int at = i / 32 * 128 + i % 32 + 32 * j;
                store(to + at, floats(((four >> 2 * j & 3) | (high >> j & 1) << 2) - 4) * scale[at / 16]);
            }
        }
    }
}

void decode_q4_k(const uint8_t *from, int64_t blocks, float *to) {
    for (; blocks--; from += 144, to += 256) {
        const float d = half_at(from), least = half_at(from + 2);
        uint8_t scales[8], minimums[8];
        scales_and_mins(from + 4, scales, minimums);
        for (int s = 0; s < 4; s++) {
            const float low = d * float(scales[2 * s]), low_minimum = least * float(minimums[2 * s]);
            const float high = d * float(scales[2 * s + 1]), high_minimum = least * float(minimums[2 * s + 1]);
            for (int i = 0; i < 32; i += W) {
                const I pair = load_ints<uint8_t>(from + 16 + 32 * s + i);
                store(to + 64 * s + i, floats(pair & 15) * low - low_minimum);
                store(to + 64 * s + 32 + i, floats(pair >> 4) * high - high_minimum);
            }
        }
    }
}

void decode_q5_k(const uint8_t *from, int64_t blocks, float *to) {
    for (; blocks--; from += 176, to += 256) {
        const float d = half_at(from), least = half_at(from + 2);
        uint8_t scales[8], minimums[8];
        scales_and_mins(from + 4, scales, minimums);
        for (int s = 0; s < 4; s++) {
            const float low = d * float(scales[2 * s]), low_minimum = least * float(minimums[2 * s]);
            const float high = d * float(scales[2 * s + 1]), high_minimum = least * float(minimums[2 * s + 1]);
            for (int i = 0; i < 32; i += W) {
                const I pair = load_ints<uint8_t>(from + 48 + 32 * s + i),
                        fifth = load_ints<uint8_t>(from + 16 + i) >> 2 * s;
                store(to + 64 * s + i, floats((pair & 15) | (fifth & 1) << 4) * low - low_minimum);
                store(to + 64 * s + 32 + i, floats(pair >> 4 | (fifth & 2) << 3) * high - high_minimum);
            }
        }
    }
}

void decode_q6_k(const uint8_t *from, int64_t blocks, float *to) {
    for (; blocks--; from += 210, to += 256) {
        const float d = half_at(from + 208);
        float scale[16];
        for (int g = 0; g < 16; g++) scale[g] = d * float(int8_t(from[192 + g]));
        for (int i = 0; i < 64; i += W) {
            const int s = i / 32, l = i % 32;
            const I low = load_ints<uint8_t>(from + 64 * s + l), high = load_ints<uint8_t>(from + 64 * s + 32 + l);
            const I upper = load_ints<uint8_t>(from + 128 + i), quants[4] = {low & 15, high & 15, low >> 4, high >> 4};
            for (int j = 0; j < 4; j++) {
                const int at = 128 * s + l + 32 * j;
                store(to + at, floats((quants[j] | (upper >> 2 * j & 3) << 4) - 32) * scale[at / 16]);
            }
        }
    }
}

void decode_q8_k(const uint8_t *from, int64_t blocks, float *to) {
    for (; blocks--; from += 292, to += 256) {
        const float d = load_as<float>(from);
        for (int i = 0; i < 256; i += W) store(to + i, floats(load_ints<int8_t>(from + 4 + i)) * d);
    }
}

}  // namespace puna::PUNA_ISA
