// Floats as their bits, and numbers of 16 and 8 bits from and to floats, one at a time.
//
// Everything here has internal linkage: objects for different instruction sets must not share a copy of a function.
#pragma once

#include <bit>
#include <cstdint>

namespace puna {
namespace {

inline uint32_t bits_of(float x) { return std::bit_cast<uint32_t>(x); }
inline float float_of(uint32_t bits) { return std::bit_cast<float>(bits); }

inline float half_to_float(uint16_t half) {
    const uint32_t sign = uint32_t(half & 0x8000) << 16, rest = half & 0x7fff;
    if (rest >= 0x7c00) return float_of(sign | 0x7f800000 | (rest & 0x3ff) << 13);
    if (rest >= 0x400) return float_of(sign | ((rest << 13) + 0x38000000));
    return float_of(sign | bits_of(float(rest) * 0x1p-24f));
}

// To nearest even; a NaN keeps its upper bits and becomes quiet.
inline uint16_t float_to_half(float x) {
    const uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    if (rest > 0x7f800000) return uint16_t(sign | 0x7e00 | (rest >> 13 & 0x3ff));
    if (rest >= 0x477ff000) return uint16_t(sign | 0x7c00);  // rounds to 65536 or more
    if (rest >= 0x38800000) return uint16_t(sign | ((rest - 0x38000000 + 0xfff + (rest >> 13 & 1)) >> 13));
    return uint16_t(sign | (bits_of(float_of(rest) + 0.5f) - 0x3f000000));  // subnormal: the float adder rounds
}

inline float bfloat_to_float(uint16_t half) { return float_of(uint32_t(half) << 16); }

inline uint16_t float_to_bfloat(float x) {
    const uint32_t bits = bits_of(x);
    if ((bits & 0x7fffffff) > 0x7f800000) return uint16_t(bits >> 16 | 0x40);
    return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// 2^(exponent - 128), half of what the byte stands for in MXFP4, whose E2M1 are kept doubled.
inline float half_e8m0(uint8_t exponent) {
    return float_of(exponent < 2 ? 0x00200000u << exponent : uint32_t(exponent - 1) << 23);
}

}  // namespace
}  // namespace puna
