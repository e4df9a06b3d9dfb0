// ggml's blocks (https://github.com/ggml-org/ggml, ggml-common.h) read as what panels hold: unsigned bytes, four
// columns to a 32-bit word, and small scales. It does not know where panels keep them.
#pragma once

#include <cstring>

#include "kernels/panels.h"

namespace puna {
namespace {

inline uint32_t word_at(const uint8_t *p) {
    uint32_t word;
    std::memcpy(&word, p, 4);
    return word;
}

inline float half_to_float(const uint8_t *p) {
    uint16_t half;
    std::memcpy(&half, p, 2);
    const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16, rest = half & 0x7fff;
    uint32_t bits;
    if (rest >= 0x7c00) {
        bits = sign | 0x7f800000 | (rest & 0x3ff) << 13;
    } else if (rest >= 0x0400) {
        bits = sign | ((rest << 13) + (112u << 23));
    } else {
        const float value = static_cast<float>(rest) * 0x1p-24f;
        std::memcpy(&bits, &value, 4);
        bits |= sign;
    }
    float result;
    std::memcpy(&result, &bits, 4);
    return result;
}

constexpr int64_t columns_of(Type type) {
    switch (type) {
    case Type::F32: case Type::F16: case Type::BF16: return 1;
    case Type::Q4_0: case Type::Q4_1: case Type::Q5_0: case Type::Q5_1: case Type::Q8_0: return 32;
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
    }
    return 0;
}

// Four bits to the lowest bits of four bytes.
inline uint32_t spread(uint32_t bits) { return (bits & 15) * 0x00204081u & 0x01010101u; }

inline void nibble_words(const uint8_t *p, uint32_t q[8]) {
    for (int i = 0; i < 4; i++) {
        const uint32_t word = word_at(p + 4 * i);
        q[i] = word & 0x0f0f0f0fu;
        q[i + 4] = word >> 4 & 0x0f0f0f0fu;
    }
}

// The integers of columns 32 * sub .. 32 * sub + 31 of a block.
template <Type type> void block_integers(const uint8_t *block, int sub, uint32_t q[8]) {
    const int n = sub / 4, j = sub % 4;
    if constexpr (type == Type::Q4_0) nibble_words(block + 2, q);
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

}  // namespace
}  // namespace puna
