// Blocks of 256: Q2_K, Q3_K, Q4_K, Q5_K, Q6_K (drawn in src/puna/quants/k.py).

#include <algorithm>
#include <cmath>

#include "quantize/codec.h"
#include "quantize/fits.h"
#include "quantize/lanes.h"

namespace puna::PUNA_ISA {
namespace {

constexpr int size = 256, most = quantize::chunk / size;  // weights of a block, blocks at once

// Importance times sqrt(spread * mean square of the block + x^2).
void spread_weights(const float *x, const float *weights, float spread, float *out) {
    alignas(64) float turned[W * W], means[most];
    for (int block = 0; block < most; block += W) {
        F sum{};
        for (int i = 0; i < size; i += W) {
            transpose(x + block * size + i, size, turned, W);
            for (int k = 0; k < W; k++) sum += load(turned + k * W) * load(turned + k * W);
        }
        store(means + block, spread * sum / float(size));
    }
    for (int i = 0; i < quantize::chunk; i += W) {
        const F value = load(x + i);
        store(out + i, load(weights + i) * root(means[i / size] + value * value));
    }
}

// A unit for each block and a small integer for each of its groups: their products are the scales.
template <int groups> struct Factors {
    alignas(64) float unit[most];
    alignas(64) uint8_t factor[most][groups];
};

// Factors of numbers >= 0, as shares of the largest: 0..top.
template <int groups> void shares(const float *parameter, int top, int64_t blocks, Factors<groups> &out) {
    for (int64_t block = 0; block < blocks; block++, parameter += groups) {
        const float largest = std::max(0.0f, *std::max_element(parameter, parameter + groups));
        const float inverse = largest > 0 ? float(top) / largest : 0;
        out.unit[block] = largest / float(top);
        for (int i = 0; i < groups; i++)
            out.factor[block][i] = std::min(uint8_t(nearest(inverse * parameter[i])), uint8_t(top));
    }
}

// Turned so that a lane is a block: number i of each.
template <int groups> PUNA_INLINE F of_blocks(const float *numbers, int block, int i) {
    F out{};
    for (int lane = 0; lane < W; lane++) out[lane] = numbers[(block + lane) * groups + i];
    return out;
}

// Factors of numbers >= 0, weighted by `share`; more than `top` only where a number is negative, unless `capped`.
template <int groups>
void positive_fits(const float *parameter, const float *share, int top, bool capped, int64_t blocks,
                   Factors<groups> &out) {
    for (int block = 0; block < blocks; block += W) {
        F numbers[groups], weights[groups], unit;
        I factors[groups];
        for (int i = 0; i < groups; i++) {
            numbers[i] = of_blocks<groups>(parameter, block, i);
            weights[i] = of_blocks<groups>(share, block, i);
        }
        positive_fit<groups>(numbers, weights, top, unit, factors);
        store(out.unit + block, unit);
        for (int i = 0; i < groups; i++)
            for (int lane = 0; lane < W; lane++)
                out.factor[block + lane][i] = uint8_t(capped ? std::min(factors[i][lane], top) : factors[i][lane]);
    }
}

// The quants low..high, counted from 0, of `x` + minimum in steps of `step`.
template <int group>
PUNA_INLINE void requantize(const float *x, float minimum, float step, int low, int high, uint8_t *q) {
    for (int i = 0; i < group; i += W) {
        const I near = nearest((load(x + i) + minimum) / step);
        store_bytes(q + i, smaller(larger(near, set_int(low)), set_int(high)) - low);
    }
}

// ---- fields of bits, in stripes: see src/puna/quants/k.py

PUNA_INLINE void pack_nibbles(const uint8_t *q, int stretch, uint8_t *to) {
    for (int s = 0; s < size / 2 / stretch; s++, q += 2 * stretch, to += stretch)
        for (int i = 0; i < stretch; i++) to[i] = uint8_t((q[i] & 15) | q[i + stretch] << 4);
}

// Bits `shift`, `shift` + 1 of each quant.
PUNA_INLINE void pack_pairs(const uint8_t *q, int shift, uint8_t *to) {
    for (int s = 0; s < 2; s++, q += 128, to += 32)
        for (int i = 0; i < 32; i++)
            to[i] = uint8_t((q[i] >> shift & 3) | (q[i + 32] >> shift & 3) << 2 | (q[i + 64] >> shift & 3) << 4 |
                            (q[i + 96] >> shift & 3) << 6);
}

// Bit `shift` of each quant.
PUNA_INLINE void pack_bits(const uint8_t *q, int shift, uint8_t *to) {
    for (int i = 0; i < 32; i++) to[i] = 0;
    for (int k = 0; k < 8; k++)
        for (int i = 0; i < 32; i++) to[i] = uint8_t(to[i] | (q[32 * k + i] >> shift & 1) << k);
}

// Eight scales and minimums of 6 bits in 12 bytes.
PUNA_INLINE void pack_scales(const uint8_t *scales, const uint8_t *minimums, uint8_t *to) {
    for (int i = 0; i < 4; i++) {
        to[i] = uint8_t(scales[i] | scales[i + 4] >> 4 << 6);
        to[i + 4] = uint8_t(minimums[i] | minimums[i + 4] >> 4 << 6);
        to[i + 8] = uint8_t((scales[i + 4] & 15) | minimums[i + 4] << 4);
    }
}

PUNA_INLINE void unpack_scales(const uint8_t *from, uint8_t *scales, uint8_t *minimums) {
    for (int i = 0; i < 4; i++) {
        scales[i] = from[i] & 63;
        minimums[i] = from[i + 4] & 63;
        scales[i + 4] = uint8_t((from[i + 8] & 15) | from[i] >> 6 << 4);
        minimums[i + 4] = uint8_t(from[i + 8] >> 4 | from[i + 4] >> 6 << 4);
    }
}

// ---- types with minimums

template <int group> struct Affine {  // fits of groups of 256 / groups weights, as factors of scales and of minimums
    static constexpr int groups = size / group;
    Fits<group> fits;
    Factors<groups> scales, minimums;

    void search(const float *x, const float *weights, int top, int unit, Steps steps, float spread, bool capped,
                int64_t blocks) {
        constexpr bool magnitudes = group == 16;
        if (weights) {
            alignas(64) float w[quantize::chunk];
            spread_weights(x, weights, spread, w);
            affine_fits<group, magnitudes>(x, w, float(top), {-0.9f, 0.05f, 36}, blocks * groups, fits);
            positive_fits<groups>(fits.scale, fits.share, unit, capped, blocks, scales);
            positive_fits<groups>(fits.minimum, fits.share, unit, capped, blocks, minimums);
        } else {
            affine_fits<group, magnitudes>(x, nullptr, float(top), steps, blocks * groups, fits);
            shares<groups>(fits.scale, unit, blocks, scales);
            shares<groups>(fits.minimum, unit, blocks, minimums);
        }
    }

    // The quants of a block for its scales as they are stored.
    void quants(const float *x, int block, float d, float dmin, const uint8_t *scale, const uint8_t *minimum, int top,
                uint8_t *q) const {
        for (int i = 0; i < groups; i++, x += group, q += group) {
            const float step = d * float(scale[i]);
            if (step != 0) requantize<group>(x, dmin * float(minimum[i]), step, 0, top, q);
            else fits.quants(x, block * groups + i, 0, top, q);
        }
    }
};

template <int bits> bool encode_45(const float *x, const float *weights, int64_t blocks, uint8_t *to) {
    constexpr int top = bits == 4 ? 15 : 31, bytes = bits == 4 ? 144 : 176;
    alignas(64) uint8_t q[size];
    Affine<32> found;
    found.search(x, weights, top, 63, bits == 4 ? Steps{-1.0f, 0.1f, 20} : Steps{-0.5f, 0.1f, 15}, 2, bits == 5,
                 blocks);
    bool stored = true;
    for (int block = 0; block < blocks; block++, to += bytes) {
        uint8_t scale[8], minimum[8];
        stored &= store_half(to, found.scales.unit[block]) & store_half(to + 2, found.minimums.unit[block]);
        pack_scales(found.scales.factor[block], found.minimums.factor[block], to + 4);
        unpack_scales(to + 4, scale, minimum);
        found.quants(x + block * size, block, load_half(to), load_half(to + 2), scale, minimum, top, q);
        if constexpr (bits == 5) pack_bits(q, 4, to + 16);
        pack_nibbles(q, 32, to + (bits == 4 ? 16 : 48));
    }
    return stored;
}

}  // namespace

bool encode_q2_k(const float *x, const float *weights, int64_t blocks, uint8_t *to) {
    alignas(64) uint8_t q[size];
    Affine<16> found;
    found.search(x, weights, 3, 15, {-0.5f, 0.1f, 15}, 1, false, blocks);
    bool stored = true;
    for (int block = 0; block < blocks; block++, to += 84) {
        uint8_t scale[16], minimum[16];
        stored &= store_half(to + 80, found.scales.unit[block]) & store_half(to + 82, found.minimums.unit[block]);
        for (int i = 0; i < 16; i++) {
            to[i] = uint8_t(found.scales.factor[block][i] | found.minimums.factor[block][i] << 4);
            scale[i] = to[i] & 15;
            minimum[i] = to[i] >> 4;
        }
        found.quants(x + block * size, block, load_half(to + 80), load_half(to + 82), scale, minimum, 3, q);
        pack_pairs(q, 0, to + 16);
    }
    return stored;
}

bool encode_q4_k(const float *x, const float *w, int64_t blocks, uint8_t *to) { return encode_45<4>(x, w, blocks, to); }
bool encode_q5_k(const float *x, const float *w, int64_t blocks, uint8_t *to) { return encode_45<5>(x, w, blocks, to); }

// ---- symmetric types

namespace {

// The number of the largest magnitude, the first of several.
PUNA_INLINE float extreme_of(const float *numbers) {
    float largest = numbers[0];
    for (int i = 1; i < 16; i++)
        if (std::fabs(numbers[i]) > std::fabs(largest)) largest = numbers[i];
    return largest;
}

// Q3_K's factors, counted from 0: 6 bits each.
void signed_shares(const float *scales, int64_t blocks, Factors<16> &out) {
    for (int64_t block = 0; block < blocks; block++, scales += 16) {
        const float largest = extreme_of(scales), inverse = largest != 0 ? -32.0f / largest : 1;
        out.unit[block] = largest != 0 ? 1.0f / inverse : 0;
        for (int i = 0; i < 16; i++) {
            const int near = std::clamp(nearest(inverse * scales[i]), -32, 31) + 32;
            out.factor[block][i] = largest != 0 ? uint8_t(near) : 0;
        }
    }
}

void signed_fits(const float *scales, const float *share, int64_t blocks, Factors<16> &out) {
    alignas(64) float numbers[quantize::chunk], weights[quantize::chunk];
    for (int i = 0; i < quantize::chunk; i++) numbers[i] = i < most * 16 ? scales[i] : 0;
    for (int i = 0; i < quantize::chunk; i++) weights[i] = i < most * 16 ? share[i] : 0;
    Fits<16> fits;
    symmetric_fits<16>(numbers, weights, 32, blocks, fits);
    for (int block = 0; block < blocks; block++) {
        out.unit[block] = fits.scale[block];
        fits.quants(numbers + block * 16, block, -32, 31, out.factor[block]);
    }
}

PUNA_INLINE void pack_q3_scales(const uint8_t *s, uint8_t *to) {
    for (int i = 0; i < 8; i++) to[i] = uint8_t((s[i] & 15) | s[i + 8] << 4);
    for (int i = 0; i < 4; i++)
        to[8 + i] = uint8_t(s[i] >> 4 | s[i + 4] >> 4 << 2 | s[i + 8] >> 4 << 4 | s[i + 12] >> 4 << 6);
}

}  // namespace

bool encode_q3_k(const float *x, const float *weights, int64_t blocks, uint8_t *to) {
    alignas(64) uint8_t q[size];
    alignas(64) uint8_t levels[quantize::chunk];  // turned, `searched` groups after another
    Fits<16> fits;
    Factors<16> found;
    if (weights) {
        alignas(64) float w[quantize::chunk];
        spread_weights(x, weights, 2, w);
        symmetric_fits<16>(x, w, 4, blocks * 16, fits);
        signed_fits(fits.scale, fits.share, blocks, found);
    } else {
        alignas(64) float turned[16 * searched];
        for (int group = 0; group < blocks * 16; group += searched) {
            F scale[U];
            by_group(x + group * 16, 16, searched, turned);
            stepwise_fit<16>(turned, 4, scale, levels + group * 16);
            for (int u = 0; u < U; u++) store(fits.scale + group + u * W, scale[u]);
        }
        signed_shares(fits.scale, blocks, found);
    }
    bool stored = true;
    for (int block = 0; block < blocks; block++, to += 110) {
        stored &= store_half(to + 108, found.unit[block]);
        for (int i = 0; i < 16; i++) {
            const float *values = x + block * size + i * 16;
            const int group = block * 16 + i;
            const float step = load_half(to + 108) * float(found.factor[block][i] - 32);
            if (step != 0) requantize<16>(values, 0, step, -4, 3, q + i * 16);
            else if (weights) fits.quants(values, group, -4, 3, q + i * 16);
            else
                for (int k = 0; k < 16; k++)
                    q[i * 16 + k] = levels[group / searched * searched * 16 + k * searched + group % searched];
        }
        pack_bits(q, 2, to);
        pack_pairs(q, 0, to + 32);
        pack_q3_scales(found.factor[block], to + 96);
    }
    return stored;
}

bool encode_q6_k(const float *x, const float *weights, int64_t blocks, uint8_t *to) {
    alignas(64) uint8_t q[size];
    Fits<16> fits;
    symmetric_fits<16>(x, weights, 32, blocks * 16, fits);
    bool stored = true;
    for (int block = 0; block < blocks; block++, to += 210) {
        const float *scales = fits.scale + block * 16, largest = extreme_of(scales);
        if (!(std::fabs(largest) >= smallest)) {
            std::memset(to, 0, 210);
            continue;
        }
        const float inverse = -128.0f / largest;
        stored &= store_half(to + 208, 1.0f / inverse);
        for (int i = 0; i < 16; i++) {
            const int8_t factor = int8_t(std::min(nearest(inverse * scales[i]), 127));
            const float step = load_half(to + 208) * float(factor), *values = x + block * size + i * 16;
            to[192 + i] = uint8_t(factor);
            if (step != 0) requantize<16>(values, 0, step, -32, 31, q + i * 16);
            else fits.quants(values, block * 16 + i, -32, 31, q + i * 16);
        }
        pack_nibbles(q, 64, to);
        pack_pairs(q, 4, to + 128);
    }
    return stored;
}

}  // namespace puna::PUNA_ISA
