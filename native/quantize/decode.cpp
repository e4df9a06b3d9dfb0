// Values of the types without a grid whose blocks are small: drawn in src/puna/quants/{plain,legacy,iq4,ternary,
// microscaling}.py.

#include "quantize/floats8.h"
#include "quantize/levels.h"
#include "quantize/unpack.h"

namespace puna::PUNA_ISA {

void decode_f16(const uint8_t *from, int64_t blocks, float *to) {
    int64_t i = 0;
    for (; i + W <= blocks; i += W) store(to + i, from_halves(load_ints<uint16_t>(from + 2 * i)));
    for (; i < blocks; i++) to[i] = from_halves(set_int(load_as<uint16_t>(from + 2 * i)))[0];
}

void decode_bf16(const uint8_t *from, int64_t blocks, float *to) {
    int64_t i = 0;
    for (; i + W <= blocks; i += W) store(to + i, from_bits(load_ints<uint16_t>(from + 2 * i) << 16));
    for (; i < blocks; i++) to[i] = from_bits(set_int(load_as<uint16_t>(from + 2 * i)) << 16)[0];
}

namespace {

// Nibbles of `bytes` bytes: the lower of all, then the upper; `value` makes floats of them (and of where they are).
template <int bytes, class Value> PUNA_INLINE void nibbles(const uint8_t *from, float *to, Value value) {
    for (int i = 0; i < bytes; i += W) {
        const I pair = load_ints<uint8_t>(from + i);
        store(to + i, value(pair & 15, i));
        store(to + bytes + i, value(pair >> 4, bytes + i));
    }
}

}  // namespace

void decode_q4_0(const uint8_t *from, int64_t blocks, float *to) {
    for (; blocks--; from += 18, to += 32) {
        const float d = half_at(from);
        nibbles<16>(from + 2, to, [&](I q, int) { return floats(q - 8) * d; });
    }
}

void decode_q4_1(const uint8_t *from, int64_t blocks, float *to) {
    for (; blocks--; from += 20, to += 32) {
        const float d = half_at(from), m = half_at(from + 2);
        nibbles<16>(from + 4, to, [&](I q, int) { return floats(q) * d + m; });
    }
}

void decode_q5_0(const uint8_t *from, int64_t blocks, float *to) {
    for (; blocks--; from += 22, to += 32) {
        const float d = half_at(from);
        const uint32_t high = load_as<uint32_t>(from + 2);
        nibbles<16>(from + 6, to, [&](I q, int at) { return floats((q | bit_lanes(high, at) << 4) - 16) * d; });
    }
}

void decode_q5_1(const uint8_t *from, int64_t blocks, float *to) {
    for (; blocks--; from += 24, to += 32) {
        const float d = half_at(from), m = half_at(from + 2);
        const uint32_t high = load_as<uint32_t>(from + 4);
        nibbles<16>(from + 8, to, [&](I q, int at) { return floats(q | bit_lanes(high, at) << 4) * d + m; });
    }
}

void decode_q8_0(const uint8_t *from, int64_t blocks, float *to) {
    for (; blocks--; from += 34, to += 32) {
        const float d = half_at(from);
        for (int i = 0; i < 32; i += W) store(to + i, floats(load_ints<int8_t>(from + 2 + i)) * d);
    }
}

void decode_iq4_nl(const uint8_t *from, int64_t blocks, float *to) {
    for (; blocks--; from += 18, to += 32) {
        const float d = half_at(from);
        nibbles<16>(from + 2, to, [&](I q, int) { return pick(iq4_levels, q) * d; });
    }
}

void decode_iq4_xs(const uint8_t *from, int64_t blocks, float *to) {
    for (; blocks--; from += 136) {
        const float d = half_at(from);
        const unsigned high = load_as<uint16_t>(from + 2);
        for (int g = 0; g < 8; g++, to += 32) {
            const int factor = (from[4 + g / 2] >> 4 * (g % 2) & 15) | (high >> 2 * g & 3) << 4;
            const float scale = d * float(factor - 32);
            nibbles<16>(from + 8 + 16 * g, to, [&](I q, int) { return pick(iq4_levels, q) * scale; });
        }
    }
}

void decode_mxfp4(const uint8_t *from, int64_t blocks, float *to) {
    for (; blocks--; from += 17, to += 32) {
        const float scale = half_e8m0(from[0]);
        nibbles<16>(from + 1, to, [&](I q, int) { return pick(doubled_e2m1, q) * scale; });
    }
}

void decode_nvfp4(const uint8_t *from, int64_t blocks, float *to) {
    for (; blocks--; from += 36)
        for (int g = 0; g < 4; g++, to += 16) {
            const float scale = half_e4m3[from[g]];
            const uint64_t pairs = load_as<uint64_t>(from + 4 + 8 * g), mask = 0x0f0f0f0f0f0f0f0f;
            const uint64_t quants[2] = {pairs & mask, pairs >> 4 & mask};
            for (int i = 0; i < 16; i += W)
                store(to + i,
                      pick(doubled_e2m1, load_ints<uint8_t>(reinterpret_cast<const uint8_t *>(quants) + i)) * scale);
        }
}

namespace {

// The trits of `size` bytes, five (or `count`) stripes: fractions in base 3, first digit first.
template <int size, int count> PUNA_INLINE void trits(const uint8_t *from, float d, float *to) {
    int power = 1;
    for (int stripe = 0; stripe < count; stripe++, power *= 3)
        for (int i = 0; i < size; i += W)
            store(to + stripe * size + i, (floats(((load_ints<uint8_t>(from + i) * power & 255) * 3) >> 8) - 1.0f) * d);
}

}  // namespace

void decode_tq1_0(const uint8_t *from, int64_t blocks, float *to) {
    for (; blocks--; from += 54, to += 256) {
        const float d = half_at(from + 52);
        trits<32, 5>(from, d, to);
        trits<16, 5>(from + 32, d, to + 160);
        int power = 1;
        for (int stripe = 0; stripe < 4; stripe++, power *= 3)
            for (int i = 0; i < 4; i++)
                to[240 + 4 * stripe + i] = (float((from[48 + i] * power & 255) * 3 >> 8) - 1.0f) * d;
    }
}

void decode_tq2_0(const uint8_t *from, int64_t blocks, float *to) {
    for (; blocks--; from += 66, to += 256) {
        const float d = half_at(from + 64);
        for (int i = 0; i < 64; i += W) {
            const I four = load_ints<uint8_t>(from + i);
            for (int j = 0; j < 4; j++) store(to + i / 32 * 128 + i % 32 + 32 * j, floats((four >> 2 * j & 3) - 1) * d);
        }
    }
}

void decode_q1_0(const uint8_t *from, int64_t blocks, float *to) {
    for (; blocks--; from += 18, to += 128) {
        const float d = half_at(from);
        for (int i = 0; i < 128; i += W)
            store(to + i, floats(2 * bit_lanes(load_as<uint32_t>(from + 2 + i / 32 * 4), i % 32) - 1) * d);
    }
}

}  // namespace puna::PUNA_ISA
