// The 8-bit scales of MXFP4 (E8M0) and NVFP4 (E4M3 without sign), halved because E2M1 is kept doubled.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

namespace puna::PUNA_ISA {

// 2 ** (exponent - 128), the half of what the byte stands for.
inline float half_e8m0(uint8_t exponent) {
    const uint32_t bits = exponent < 2 ? 0x00200000u << exponent : uint32_t(exponent - 1) << 23;
    float out;
    std::memcpy(&out, &bits, 4);
    return out;
}

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
    int32_t bits;
    std::memcpy(&bits, &value, 4);
    if (bits >> 23 <= 120) return uint8_t(int(std::min(value * 512.0f + 0.5f, 7.0f)));
    const int normal = (bits >> 20) - (120 << 3) + (bits >> 19 & 1);
    return uint8_t(normal >= 15 << 3 ? 0x7e : normal);
}

}  // namespace puna::PUNA_ISA
