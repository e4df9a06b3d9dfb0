// ggml's blocks (https://github.com/ggml-org/ggml, ggml-common.h) read as what panels hold: unsigned bytes, four
// columns to a 32-bit word, and small scales. It does not know where panels keep them.
#pragma once

#include <cstring>

#include "grid_blocks.h"
#include "words.h"

namespace puna {
namespace {

// Half of what the byte, below 128, stands for.
inline float half_e4m3(uint8_t code) {
    return code < 8 ? static_cast<float>(code) * 0x1p-10f : float_of((code + (119u << 3)) << 20);
}

constexpr int64_t columns_of(Type type) {
    switch (type) {
    case Type::F32: case Type::F16: case Type::BF16: return 1;
    case Type::Q4_0: case Type::Q4_1: case Type::Q5_0: case Type::Q5_1: case Type::Q8_0: return 32;
    case Type::IQ4_NL: case Type::MXFP4: return 32;
    case Type::NVFP4: return 64;
    case Type::Q1_0: return 128;
    default: return 256;
    }
}

constexpr int64_t bytes_of(Type type) {
    switch (type) {
    case Type::F32: return 4;
    case Type::F16: case Type::BF16: return 2;
    case Type::Q4_0: return 18;
    case Type::Q4_1: return 20;
    case Type::Q5_0: return 22;
    case Type::Q5_1: return 24;
    case Type::Q8_0: return 34;
    case Type::Q2_K: return 84;
    case Type::Q3_K: return 110;
    case Type::Q4_K: return 144;
    case Type::Q5_K: return 176;
    case Type::Q6_K: return 210;
    case Type::Q8_K: return 292;
    case Type::IQ1_S: return 50;
    case Type::IQ1_M: return 56;
    case Type::IQ2_XXS: case Type::TQ2_0: return 66;
    case Type::IQ2_XS: return 74;
    case Type::IQ2_S: return 82;
    case Type::IQ3_XXS: return 98;
    case Type::IQ3_S: return 110;
    case Type::IQ4_NL: case Type::Q1_0: return 18;
    case Type::IQ4_XS: return 136;
    case Type::MXFP4: return 17;
    case Type::NVFP4: return 36;
    case Type::TQ1_0: return 54;
    }
    return 0;
}

inline void nibble_words(const uint8_t *p, uint32_t q[8]) {
    for (int i = 0; i < 4; i++) {
        const uint32_t word = word_at(p + 4 * i);
        q[i] = word & 0x0f0f0f0fu;
        q[i + 4] = word >> 4 & 0x0f0f0f0fu;
    }
}

// Four trits of bytes that hold several: the one that `power`, of 3, brings to the front.
inline uint32_t trit_word(const uint8_t *p, uint32_t power) {
    const uint32_t mask = 0x00ff00ff, word = word_at(p);
    const uint32_t even = (word & mask) * power & mask, odd = (word >> 8 & mask) * power & mask;
    return (even * 3 >> 8 & mask) | ((odd * 3 >> 8 & mask) << 8);
}

// TQ1_0: stripes of 32 bytes, five times; of 16, five times; of 4, four times.
inline void trit_words(const uint8_t *block, int sub, uint32_t q[8]) {
    constexpr uint32_t powers[] = {1, 3, 9, 27, 81};
    if (sub < 5) {
        for (int i = 0; i < 8; i++) q[i] = trit_word(block + 4 * i, powers[sub]);
        return;
    }
    for (int h = 0; h < 2; h++)
        for (int i = 0; i < 4; i++) {
            const int stripe = 2 * (sub - 5) + h;
            q[4 * h + i] =
                stripe < 5 ? trit_word(block + 32 + 4 * i, powers[stripe]) : trit_word(block + 48, powers[i]);
        }
}

// The integers of columns 32 * sub .. 32 * sub + 31 of a block.
template <Type type> void block_integers(const uint8_t *block, int sub, uint32_t q[8]) {
    const int n = sub / 4, j = sub % 4;
    if constexpr (has_points(type)) grid_integers<type>(block, sub, q);
    if constexpr (type == Type::Q4_0 || type == Type::IQ4_NL) nibble_words(block + 2, q);
    if constexpr (type == Type::MXFP4) nibble_words(block + 1, q);
    if constexpr (type == Type::TQ1_0) trit_words(block, sub, q);
    if constexpr (type == Type::IQ4_XS) nibble_words(block + 8 + 16 * sub, q);
    if constexpr (type == Type::NVFP4) {
        uint32_t words[8];
        nibble_words(block + 4 + 16 * sub, words);
        for (int i = 0; i < 8; i++) q[i] = words[i / 4 * 2 + i % 2 + i / 2 % 2 * 4];  // the halves of 8 bytes, twice
    }
    if constexpr (type == Type::Q4_1) nibble_words(block + 4, q);
    if constexpr (type == Type::Q5_0 || type == Type::Q5_1) {
        const uint8_t *high = block + (type == Type::Q5_0 ? 2 : 4);
        nibble_words(high + 4, q);
        for (int i = 0; i < 8; i++) q[i] |= spread(word_at(high) >> 4 * i) << 4;
    }
    if constexpr (type == Type::Q8_0 || type == Type::Q8_K) {
        const uint8_t *bytes = block + (type == Type::Q8_0 ? 2 : 4 + 32 * sub);
        for (int i = 0; i < 8; i++) q[i] = word_at(bytes + 4 * i) ^ 0x80808080u;
    }
    for (int i = 0; i < 8; i++) {
        if constexpr (type == Type::Q1_0) q[i] = spread(word_at(block + 2 + 4 * sub) >> 4 * i);
        if constexpr (type == Type::TQ2_0) q[i] = word_at(block + 32 * n + 4 * i) >> 2 * j & 0x03030303u;
        if constexpr (type == Type::Q2_K) q[i] = word_at(block + 16 + 32 * n + 4 * i) >> 2 * j & 0x03030303u;
        if constexpr (type == Type::Q3_K)
            q[i] = (word_at(block + 32 + 32 * n + 4 * i) >> 2 * j & 0x03030303u) |
                   (word_at(block + 4 * i) >> sub & 0x01010101u) << 2;
        if constexpr (type == Type::Q4_K)
            q[i] = word_at(block + 16 + 32 * (sub / 2) + 4 * i) >> 4 * (sub % 2) & 0x0f0f0f0fu;
        if constexpr (type == Type::Q5_K)
            q[i] = (word_at(block + 48 + 32 * (sub / 2) + 4 * i) >> 4 * (sub % 2) & 0x0f0f0f0fu) |
                   (word_at(block + 16 + 4 * i) >> sub & 0x01010101u) << 4;
        if constexpr (type == Type::Q6_K)
            q[i] = (word_at(block + 64 * n + 32 * (j % 2) + 4 * i) >> 4 * (j / 2) & 0x0f0f0f0fu) |
                   (word_at(block + 128 + 32 * n + 4 * i) >> 2 * j & 0x03030303u) << 4;
    }
}

// Where the f16 (Q8_K: f32) scale is, and behind it the minimum where there is one.
constexpr int scale_place(Type type) {
    switch (type) {
    case Type::TQ1_0: return 52;
    case Type::TQ2_0: return 64;
    case Type::Q2_K: return 80;
    case Type::Q3_K: return 108;
    case Type::Q6_K: return 208;
    default: return 0;
    }
}

// Q4_K, Q5_K: eight 6-bit scales and minimums in 12 bytes.
inline void scales_and_mins(const uint8_t *s, uint8_t scale[8], uint8_t min[8]) {
    for (int j = 0; j < 4; j++) {
        scale[j] = s[j] & 63;
        min[j] = s[j + 4] & 63;
        scale[j + 4] = static_cast<uint8_t>((s[j + 8] & 15) | s[j] >> 6 << 4);
        min[j + 4] = static_cast<uint8_t>(s[j + 8] >> 4 | s[j + 4] >> 6 << 4);
    }
}

// Q3_K: sixteen 6-bit scales, offset 32, in 12 bytes.
inline void q3_scales(const uint8_t *s, int8_t scale[16]) {
    for (int i = 0; i < 16; i++) {
        const int low = i < 8 ? s[i] & 15 : s[i - 8] >> 4, high = s[8 + i % 4] >> 2 * (i / 4) & 3;
        scale[i] = static_cast<int8_t>((low | high << 4) - 32);
    }
}

// IQ4_XS: eight 6-bit scales, offset 32, in 6 bytes.
inline void iq4_scales(const uint8_t *s, int8_t scale[8]) {
    for (int i = 0; i < 8; i++) {
        const int low = s[2 + i / 2] >> 4 * (i % 2) & 15, high = s[i / 4] >> 2 * (i % 4) & 3;
        scale[i] = static_cast<int8_t>((low | high << 4) - 32);
    }
}

// What multiplies the small scales of a block, or all of it; f32.
template <Type type> float block_scale(const uint8_t *block) {
    if constexpr (type == Type::Q8_K) {
        float value;
        std::memcpy(&value, block, 4);
        return value;
    } else if constexpr (has_points(type)) {
        return grid_scale<type>(block);
    } else {
        return half_to_float(block + scale_place(type));
    }
}

// The small scales of a block that are multiplied by that one.
template <Type type> void small_scales(const uint8_t *block, int8_t *scale) {
    if constexpr (has_points(type)) grid_scales<type>(block, scale);
    else if constexpr (type == Type::Q3_K) q3_scales(block + 96, scale);
    else if constexpr (type == Type::IQ4_XS) iq4_scales(block + 2, scale);
    else std::memcpy(scale, block + 192, 16);
}

}  // namespace
}  // namespace puna
