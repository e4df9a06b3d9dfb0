// Small pieces of stored bytes: words, halves, bits. It knows no type.
#pragma once

#include <cstdint>
#include <cstring>

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

// Four bits to the lowest bits of four bytes.
inline uint32_t spread(uint32_t bits) { return (bits & 15) * 0x00204081u & 0x01010101u; }

}  // namespace
}  // namespace puna
