// Floats to int16 with one scale per 32 columns, such that no sum of 32 products leaves int32: activations, and weights
// of 16-bit floats packed into panels. Plain loops, compiled for each instruction set, which all make the same bytes.
#pragma once

#include <cstring>

#include "bits.h"
#include "sums.h"

namespace puna {
namespace {

constexpr float largest_short = 32767.0f;
constexpr float largest_norm = 46336.0f;    // below 2^15.5 by what rounding 32 values can add
constexpr float smallest_peak = 1e-30f;     // below this a block of activations counts as zero

struct Block16 {
    float at[32];
};

// The largest magnitude's bits; NaN sorts above infinity.
inline uint32_t peak_bits(const Block16 &x) {
    uint32_t top = 0;
    for (float value : x.at) {
        const uint32_t bits = bits_of(value) & 0x7fffffffu;
        top = bits > top ? bits : top;
    }
    return top;
}

// The sum of the squares of scale x, in an order that vectors can keep.
inline float squares(const Block16 &x, float scale) {
    float sum[16];
    for (int i = 0; i < 16; i++) {
        const float low = x.at[i] * scale, high = x.at[i + 16] * scale;
        sum[i] = low * low + high * high;
    }
    for (int n = 8; n > 0; n /= 2)
        for (int i = 0; i < n; i++) sum[i] += sum[i + n];
    return sum[0];
}

// scale x to the nearest integers, ties to even: adding 1.5 x 2^23 leaves no room for a fraction.
inline void round_block(const Block16 &x, float scale, int16_t q[32]) {
    for (int i = 0; i < 32; i++) q[i] = static_cast<int16_t>(bits_of(x.at[i] * scale + 12582912.0f));
}

// Signs of the infinities, to be scaled by one; zero if there is a NaN, which zero times infinity is.
inline void infinities(const Block16 &x, int16_t q[32]) {
    const bool nan = peak_bits(x) > 0x7f800000u;
    for (int i = 0; i < 32; i++) {
        const int value = x.at[i] > 3.4028235e38f ? 1 : x.at[i] < -3.4028235e38f ? -1 : 0;
        q[i] = static_cast<int16_t>(nan ? 0 : value);
    }
}

// Returns d, with x = d q.
inline float quantize_block16(const Block16 &x, int16_t q[32]) {
    const uint32_t top = peak_bits(x);
    if (top >= 0x7f800000u) {
        infinities(x, q);
        return __builtin_inff();
    }
    const float peak = float_of(top);
    if (peak < smallest_peak) {
        std::memset(q, 0, 64);
        return 0.0f;
    }
    const float limit = largest_norm / __builtin_sqrtf(squares(x, 1.0f / peak));
    const float most = limit < largest_short ? limit : largest_short;
    const auto whole = static_cast<float>(static_cast<int>(most));
    round_block(x, whole / peak, q);
    return peak / whole;
}

// Rows of x to places first.. of a tile, 32 columns of every row before the next 32, as they lie there.
inline void quantize_tile16(const float *x, int64_t stride, int64_t rows, int64_t k, uint8_t *tile, int width,
                            int first) {
    for (int64_t c = 0; c < k; c += 32, tile += width * record16_bytes) {
        for (int64_t place = first, j = 0; j < rows; j++, place++) {
            Block16 block{};
            if (k - c >= 32) std::memcpy(block.at, x + j * stride + c, 128);
            else std::memcpy(block.at, x + j * stride + c, static_cast<size_t>(k - c) * 4);
            int16_t q[32];
            const float d = quantize_block16(block, q);
            std::memcpy(tile + 64 * place, q, 64);
            std::memcpy(tile + 64 * width + 4 * place, &d, 4);
        }
    }
}

// Returns the biased exponent of the power of two that q is to be multiplied with: 0 for a block of (almost) zeros,
// 255, which reads as infinity, where the block is not finite.
inline uint8_t quantize_weights16(const Block16 &x, int16_t q[32]) {
    const uint32_t top = peak_bits(x), exponent = top >> 23;
    if (exponent == 255) {
        infinities(x, q);
        return 255;
    }
    if (exponent < 16) {  // below 2^-111
        std::memset(q, 0, 64);
        return 0;
    }
    // With the peak in 1..2 the squares' sum is in 1..128, and values of 12 to 8 bits times 2^14 are below 32767.
    const float unit = exponent == 254 ? 0x1p-127f : float_of((254 - exponent) << 23);
    const float sum = squares(x, unit);
    const uint32_t shift = sum < 7.998f ? 14 : sum < 31.99f ? 13 : 12;
    round_block(x, float_of((254 - exponent + shift) << 23), q);
    return static_cast<uint8_t>(exponent - shift);
}

// 32 stored values, zero beyond `count`.
template <class V, Type type> PUNA_INLINE Block16 load_block16(const uint8_t *src, int64_t count) {
    uint8_t part[64] = {};
    if (count < 32) {
        std::memcpy(part, src, static_cast<size_t>(count) * 2);
        src = part;
    }
    Block16 block;
    for (int i = 0; i < 32; i += V::lanes) {
        if constexpr (type == Type::F16) V::store(block.at + i, V::load_f16(src + 2 * i));
        else V::store(block.at + i, V::load_bf16(src + 2 * i));
    }
    return block;
}

// The lines of rows that are not there are left as they are.
template <class V, Type type> void pack_shorts(const uint8_t *src, int64_t rows, int64_t k, uint8_t *panel) {
    const int64_t groups = group_count(layout_of(type), k);
    std::memset(panel, 0, static_cast<size_t>(power_bytes(groups)));
    uint8_t *lines = panel + power_bytes(groups);
    for (int64_t g = 0; g < groups; g++, lines += 1024) {
        for (int64_t r = 0; r < rows; r++) {
            int16_t q[32];
            const int64_t left = k - 32 * g;
            const Block16 block = load_block16<V, type>(src + (r * k + 32 * g) * 2, left < 32 ? left : 32);
            panel[panel_rows * g + r] = quantize_weights16(block, q);
            for (int i = 0; i < 16; i++) std::memcpy(lines + 64 * i + 4 * r, q + 2 * i, 4);
        }
    }
}

template <class V> constexpr void fill_shorts(LinearKernels &kernels) {
    kernels.quantize16 = quantize_tile16;
    kernels.pack_halves = pack_shorts<V, Type::F16>;
    kernels.pack_bfloats = pack_shorts<V, Type::BF16>;
}

}  // namespace
}  // namespace puna
