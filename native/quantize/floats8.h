// The 8-bit scales of MXFP4 (E8M0) and NVFP4 (E4M3 without sign), halved because E2M1 is kept doubled.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "bits.h"

namespace puna::PUNA_ISA {

// The halves of what the 256 bytes stand for; NaN (0x7f) counts as 0.
constexpr std::array<float, 256> half_e4m3 = [] {
    std::array<float, 256> out{};
    for (int code = 0; code < 256; code++) {
        const int exponent = code >> 3 & 15, mantissa = code & 7;
        float value = float(exponent ? 8 + mantissa : mantissa) / 1024;  // 2^-9 / 2
        for (int i = 1; i < exponent; i++) value *= 2;
        out[size_t(code)] = code == 0x7f ? 0 : value;
    }
    return out;
}();

// Rounds a positive value to E4M3 as ggml does: up at the half, and all from 248 on become 448.
inline uint8_t to_e4m3(float value) {
    const int bits = int(bits_of(value));
    if (bits >> 23 <= 120) return uint8_t(int(std::min(value * 512.0f + 0.5f, 7.0f)));
    const int normal = (bits >> 20) - (120 << 3) + (bits >> 19 & 1);
    return uint8_t(normal >= 15 << 3 ? 0x7e : normal);
}

}  // namespace puna::PUNA_ISA
