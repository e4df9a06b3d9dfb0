// Values of the IQ types with grids (drawn in src/puna/quants/iq.py).

#include "quantize/lattice.h"
#include "quantize/unpack.h"

namespace puna::PUNA_ISA {
namespace {

// The signs of 8 values: the eighth makes their number even.
uint32_t even_signs(unsigned seven) { return seven | unsigned(__builtin_parity(seven)) << 7; }

// 32 values: points of 4 or 8 coordinates, with the signs of `signs`, times the scales of the halves.
template <int axes>
PUNA_INLINE void place(const int8_t *points, const uint16_t *index, uint32_t signs, const float *scale, float *to) {
    int8_t values[32];
    for (int r = 0; r < 32 / axes; r++) std::memcpy(values + axes * r, points + axes * index[r], axes);
    for (int i = 0; i < 32; i += W) {
        const F v = floats(load_ints<int8_t>(values + i));
        store(to + i, from_bits(bits_of(v) ^ bit_lanes(signs, i) << 31) * scale[i / 16]);
    }
}

// Eight values of IQ1: a point, shifted by 1/8, times the scale.
PUNA_INLINE void place_shifted(const int8_t *point, bool down, float scale, float *to) {
    const float shift = down ? -0.125f : 0.125f;
    for (int i = 0; i < 8; i++) to[i] = (float(point[i]) + shift) * scale;
}

// Scales of halves of 32 values, from two nibbles.
struct Halves {
    float scale[2];

    Halves(float d, uint8_t nibbles) {
        for (int h = 0; h < 2; h++) scale[h] = d * (0.5f + float(nibbles >> 4 * h & 15)) * 0.25f;
    }
};

// Signs of 32 values from four times seven bits.
uint32_t even_signs_of(uint32_t word) {
    uint32_t signs = 0;
    for (int i = 0; i < 4; i++) signs |= even_signs(word >> 7 * i & 127) << 8 * i;
    return signs;
}

}  // namespace

void decode_iq2_xxs(const uint8_t *from, int64_t blocks, float *to) {
    const int8_t *points = lattice(Grid::IQ2_XXS).points.data();
    for (; blocks--; from += 66) {
        const float d = half_at(from);
        for (int g = 0; g < 8; g++, to += 32) {
            const uint8_t *part = from + 2 + 8 * g;
            const uint32_t word = load_as<uint32_t>(part + 4);
            const float s = d * (0.5f + float(word >> 28)) * 0.25f, scale[2] = {s, s};
            const uint16_t index[4] = {part[0], part[1], part[2], part[3]};
            place<8>(points, index, even_signs_of(word), scale, to);
        }
    }
}

void decode_iq2_xs(const uint8_t *from, int64_t blocks, float *to) {
    const int8_t *points = lattice(Grid::IQ2_XS).points.data();
    for (; blocks--; from += 74) {
        const float d = half_at(from);
        for (int g = 0; g < 8; g++, to += 32) {
            uint16_t index[4];
            uint32_t signs = 0;
            for (int i = 0; i < 4; i++) {
                const unsigned q = load_as<uint16_t>(from + 2 + 8 * g + 2 * i);
                index[i] = q & 511;
                signs |= even_signs(q >> 9) << 8 * i;
            }
            place<8>(points, index, signs, Halves(d, from[66 + g]).scale, to);
        }
    }
}

void decode_iq2_s(const uint8_t *from, int64_t blocks, float *to) {
    const int8_t *points = lattice(Grid::IQ2_S).points.data();
    for (; blocks--; from += 82) {
        const float d = half_at(from);
        for (int g = 0; g < 8; g++, to += 32) {
            uint16_t index[4];
            for (int i = 0; i < 4; i++) index[i] = uint16_t(from[2 + 4 * g + i] | (from[66 + g] >> 2 * i & 3) << 8);
            place<8>(points, index, load_as<uint32_t>(from + 34 + 4 * g), Halves(d, from[74 + g]).scale, to);
        }
    }
}

void decode_iq3_xxs(const uint8_t *from, int64_t blocks, float *to) {
    const int8_t *points = lattice(Grid::IQ3_XXS).points.data();
    for (; blocks--; from += 98) {
        const float d = half_at(from);
        for (int g = 0; g < 8; g++, to += 32) {
            const uint32_t word = load_as<uint32_t>(from + 66 + 4 * g);
            const float s = d * (0.5f + float(word >> 28)) * 0.5f, scale[2] = {s, s};
            uint16_t index[8];
            for (int i = 0; i < 8; i++) index[i] = from[2 + 8 * g + i];
            place<4>(points, index, even_signs_of(word), scale, to);
        }
    }
}

void decode_iq3_s(const uint8_t *from, int64_t blocks, float *to) {
    const int8_t *points = lattice(Grid::IQ3_S).points.data();
    for (; blocks--; from += 110) {
        const float d = half_at(from);
        for (int g = 0; g < 8; g++, to += 32) {
            const float s = d * float(1 + 2 * (from[106 + g / 2] >> 4 * (g % 2) & 15)), scale[2] = {s, s};
            uint16_t index[8];
            for (int i = 0; i < 8; i++) index[i] = uint16_t(from[2 + 8 * g + i] | (from[66 + g] >> i & 1) << 8);
            place<4>(points, index, load_as<uint32_t>(from + 74 + 4 * g), scale, to);
        }
    }
}

void decode_iq1_s(const uint8_t *from, int64_t blocks, float *to) {
    const int8_t *points = lattice(Grid::IQ1_S).points.data();
    for (; blocks--; from += 50) {
        const float d = half_at(from);
        for (int g = 0; g < 8; g++) {
            const unsigned high = load_as<uint16_t>(from + 34 + 2 * g);
            const float scale = d * float(1 + 2 * (high >> 12 & 7));
            for (int i = 0; i < 4; i++, to += 8)
                place_shifted(points + 8 * (from[2 + 4 * g + i] | (high >> 3 * i & 7) << 8), high >> 15, scale, to);
        }
    }
}

void decode_iq1_m(const uint8_t *from, int64_t blocks, float *to) {
    const int8_t *points = lattice(Grid::IQ1_S).points.data();
    for (; blocks--; from += 56) {
        uint16_t words[4], half = 0;
        std::memcpy(words, from + 48, 8);
        for (int i = 0; i < 4; i++) half |= uint16_t(words[i] >> 12 << 4 * i);
        const float d = from_halves(set_int(half))[0];
        for (int r = 0; r < 32; r++, to += 8) {
            const unsigned high = from[32 + r / 2] >> 4 * (r % 2) & 15;
            const float scale = d * float(1 + 2 * (words[r / 8] >> r / 2 % 4 * 3 & 7));
            place_shifted(points + 8 * (from[r] | (high & 7) << 8), high >> 3, scale, to);
        }
    }
}

}  // namespace puna::PUNA_ISA
