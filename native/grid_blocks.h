// Blocks of the IQ1, IQ2 and IQ3 types (drawn in src/puna/quants/iq.py), read as what panels hold: indices of levels,
// and small scales. It does not know the points of grids.
#pragma once

#include "grids.h"
#include "kernels/panels.h"
#include "words.h"

namespace puna {
namespace {

constexpr bool has_points(Type type) {
    switch (type) {
    case Type::IQ1_S: case Type::IQ1_M: case Type::IQ2_XXS: case Type::IQ2_XS: case Type::IQ2_S: return true;
    case Type::IQ3_XXS: case Type::IQ3_S: return true;
    default: return false;
    }
}

inline uint16_t short_at(const uint8_t *p) { return static_cast<uint16_t>(p[0] | p[1] << 8); }

// Signs of 8 values from seven: the eighth makes their number even.
inline uint32_t even_signs(uint32_t seven) { return seven | static_cast<uint32_t>(__builtin_parity(seven)) << 7; }

// Which points 32 columns have, by index, and the signs of their values.
template <Type type> struct Points {
    static constexpr int count = type == Type::IQ3_XXS || type == Type::IQ3_S ? 8 : 4;
    uint32_t index[count], signs = 0;

    Points(const uint8_t *block, int sub) {
        for (int i = 0; i < count; i++) index[i] = index_of(block, sub, i);
        if constexpr (type == Type::IQ2_XXS || type == Type::IQ3_XXS) {
            const uint32_t word = word_at(block + (type == Type::IQ2_XXS ? 6 + 8 * sub : 66 + 4 * sub));
            for (int i = 0; i < 4; i++) signs |= even_signs(word >> 7 * i & 127) << 8 * i;
        }
        if constexpr (type == Type::IQ2_XS)
            for (int i = 0; i < 4; i++) signs |= even_signs(short_at(block + 2 + 8 * sub + 2 * i) >> 9) << 8 * i;
        if constexpr (type == Type::IQ2_S) signs = word_at(block + 34 + 4 * sub);
        if constexpr (type == Type::IQ3_S) signs = word_at(block + 74 + 4 * sub);
    }

    static uint32_t index_of(const uint8_t *block, int sub, int i) {
        if constexpr (type == Type::IQ1_S)
            return block[2 + 4 * sub + i] | (short_at(block + 34 + 2 * sub) >> 3 * i & 7u) << 8;
        if constexpr (type == Type::IQ1_M)
            return block[4 * sub + i] | (block[32 + 2 * sub + i / 2] >> 4 * (i % 2) & 7u) << 8;
        if constexpr (type == Type::IQ2_XXS) return block[2 + 8 * sub + i];
        if constexpr (type == Type::IQ2_XS) return short_at(block + 2 + 8 * sub + 2 * i) & 511u;
        if constexpr (type == Type::IQ2_S) return block[2 + 4 * sub + i] | (block[66 + sub] >> 2 * i & 3u) << 8;
        if constexpr (type == Type::IQ3_XXS) return block[2 + 8 * sub + i];
        if constexpr (type == Type::IQ3_S) return block[2 + 8 * sub + i] | (block[66 + sub] >> i & 1u) << 8;
    }
};

// The indices of levels of columns 32 * sub .. 32 * sub + 31.
template <Type type> void grid_integers(const uint8_t *block, int sub, uint32_t q[8]) {
    const uint8_t *grid = grid_of(type);
    const Points<type> points(block, sub);
    for (int i = 0; i < points.count; i++)
        std::memcpy(q + i * 8 / points.count, grid + points.index[i] * (32 / points.count), 32 / points.count);
    for (int i = 0; i < 8; i++) {
        if constexpr (type == Type::IQ1_S) {  // a group shifted down is the negative of one shifted up
            if (block[35 + 2 * sub] >> 7) q[i] = 0x02020202u - q[i];
        } else if constexpr (type == Type::IQ1_M) {
            if (block[32 + 2 * sub + i / 4] >> (i / 2 % 2 * 4 + 3) & 1) q[i] |= 0x04040404u;
        } else {
            q[i] |= spread(points.signs >> 4 * i) << (points.count == 8 ? 3 : 2);
        }
    }
}

// The scale that small scales are multiplied by, for levels as panels have them.
template <Type type> float grid_scale(const uint8_t *block) {
    if constexpr (type == Type::IQ1_M) {
        uint16_t half = 0;
        for (int i = 0; i < 4; i++) half = static_cast<uint16_t>(half | short_at(block + 48 + 2 * i) >> 12 << 4 * i);
        return half_to_float(half) * 0.125f;
    }
    const float d = half_to_float(block);
    return type == Type::IQ3_S ? d : type == Type::IQ3_XXS ? d * 0.25f : d * 0.125f;
}

// The small scales, 8 or 16: odd numbers.
template <Type type> void grid_scales(const uint8_t *block, int8_t *scale) {
    const auto odd = [](int bits) { return static_cast<int8_t>(2 * bits + 1); };
    for (int i = 0; i < 8; i++) {
        if constexpr (type == Type::IQ1_S) {
            const int high = short_at(block + 34 + 2 * i), s = odd(high >> 12 & 7);
            scale[i] = static_cast<int8_t>(high >> 15 ? -s : s);
        }
        if constexpr (type == Type::IQ2_XXS) scale[i] = odd(block[9 + 8 * i] >> 4);
        if constexpr (type == Type::IQ3_XXS) scale[i] = odd(block[69 + 4 * i] >> 4);
        if constexpr (type == Type::IQ3_S) scale[i] = odd(block[106 + i / 2] >> 4 * (i % 2) & 15);
        if constexpr (type == Type::IQ2_XS || type == Type::IQ2_S) {
            const uint8_t pair = block[(type == Type::IQ2_XS ? 66 : 74) + i];
            scale[2 * i] = odd(pair & 15), scale[2 * i + 1] = odd(pair >> 4);
        }
        if constexpr (type == Type::IQ1_M)
            for (int h = 2 * i; h < 2 * i + 2; h++) scale[h] = odd(short_at(block + 48 + h / 4 * 2) >> h % 4 * 3 & 7);
    }
}

}  // namespace
}  // namespace puna
