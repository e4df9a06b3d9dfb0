// IQ4_NL and IQ4_XS: four bits that name one of 16 uneven levels (drawn in src/puna/quants/iq4.py). A lane has a group.

#include <algorithm>
#include <array>
#include <cmath>

#include "quantize/codec.h"
#include "quantize/importance.h"
#include "quantize/lanes.h"
#include "quantize/levels.h"

namespace puna::PUNA_ISA {
namespace {

constexpr int size = 32, tries = 7, cells = 2 * (127 + tries + 1);  // more than twice what is looked up

// All midpoints between levels are multiples of 1/2, so which level is nearest depends on floor(2 x) only, here
// counted from -cells.
struct Cells {
    std::array<uint8_t, 2 * cells> quant{};
    std::array<float, 2 * cells> level{};
};
constexpr Cells nearest_level = [] {
    Cells out;
    for (int cell = 0; cell < 2 * cells; cell++) {
        int q = 0;  // the upper one where two are equally near
        while (q < 15 && iq4_levels[q] + iq4_levels[q + 1] <= cell - cells) q++;
        out.quant[size_t(cell)] = uint8_t(q);
        out.level[size_t(cell)] = iq4_levels[q];
    }
    return out;
}();

// floor(v) + cells, for magnitudes below 2^22.
PUNA_INLINE I cell_of(F v) {
    const I down = __builtin_convertvector(v, I);
    return down + (floats(down) > v) + cells;
}

PUNA_INLINE F level_at(I cell) {
#if defined(__AVX512F__)
    return _mm512_i32gather_ps((__m512i)cell, nearest_level.level.data(), 4);
#elif defined(__AVX2__)
    return _mm256_i32gather_ps(nearest_level.level.data(), (__m256i)cell, 4);
#else
    F out;
    for (int i = 0; i < W; i++) out[i] = nearest_level.level[size_t(cell[i])];
    return out;
#endif
}

// The scale of W groups (x[element], weights w) such that the w-weighted square error is small.
F level_fit(const F *x, const F *w) {
    F extreme = x[0], peak = absolute(x[0]);
    for (int e = 1; e < size; e++) {
        const I more = absolute(x[e]) > peak;
        extreme = where(more, x[e], extreme);
        peak = where(more, absolute(x[e]), peak);
    }
    const I empty = peak < 1e-15f;
    extreme = where(empty, set(1), extreme);
    F scale = set(0), best = set(0);
    for (int i = -tries - 1; i <= tries; i++) {
        const bool first = i < -tries;
        const F inverse = first ? 1.0f / (extreme / 127.0f) : (float(i) - 127.0f) / extreme;
        F sum_q2 = nothing(), sum_xq = nothing();
        for (int e = 0; e < size; e++) {
            const F q = level_at(cell_of(x[e] * (inverse + inverse))), wq = w[e] * q;
            sum_q2 += wq * q;
            sum_xq += wq * x[e];
        }
        const I better = first ? sum_q2 > 0 : (sum_q2 > 0) & (sum_xq * sum_xq > best * sum_q2);
        scale = where(better, sum_xq / sum_q2, scale);
        best = where(better, scale * sum_xq, best);
    }
    return where(empty, set(0), scale);
}

// The scales of all groups of a chunk, weights being w.
void fit_chunk(const float *x, const float *w, int64_t groups, float *scale) {
    alignas(64) float turned_x[size * W], turned_w[size * W];
    for (int64_t g = 0; g < groups; g += W) {
        by_group(x + g * size, size, W, turned_x);
        by_group(w + g * size, size, W, turned_w);
        F xs[size], ws[size];
        for (int e = 0; e < size; e++) xs[e] = load(turned_x + e * W), ws[e] = load(turned_w + e * W);
        store(scale + g, level_fit(xs, ws));
    }
}

float reciprocal(float scale) { return scale == 0 ? 0.0f : 1.0f / scale; }

// Writes the quants whose levels are nearest to inverse * x, of any size; NaN counts as large.
void pack_group(const float *x, float inverse, uint8_t *to) {
    alignas(64) int32_t cell[size];
    for (int e = 0; e < size; e += W) {
        F v = load(x + e) * inverse;
        v = where(v < 127.0f, v, set(127.0f));
        v = where(v > -128.0f, v, set(-128.0f));
        const I found = cell_of(v + v);
        std::memcpy(cell + e, &found, sizeof found);
    }
    for (int i = 0; i < size / 2; i++)
        to[i] = uint8_t(nearest_level.quant[size_t(cell[i])] | nearest_level.quant[size_t(cell[i + 16])] << 4);
}

// Writes a block of IQ4_XS whose groups have the scales `scale`.
bool pack_block(const float *x, const float *scale, uint8_t *to) {
    float largest = scale[0];
    for (int g = 1; g < 8; g++)
        if (std::fabs(scale[g]) > std::fabs(largest)) largest = scale[g];
    const float unit = largest / -32.0f, inverse = reciprocal(unit);
    uint16_t high = 0;
    std::memset(to + 4, 0, 4);
    for (int g = 0; g < 8; g++) {
        const int factor = std::clamp(nearest(inverse * scale[g]), -32, 31), kept = factor + 32;
        high |= uint16_t(kept >> 4 << 2 * g);
        to[4 + g / 2] |= uint8_t((kept & 15) << 4 * (g % 2));
        pack_group(x + g * size, reciprocal(unit * float(factor)), to + 8 + 16 * g);
    }
    std::memcpy(to + 2, &high, 2);
    return store_half(to, unit);
}

}  // namespace

bool encode_iq4_nl(const float *x, const float *weights, int64_t blocks, uint8_t *to) {
    alignas(64) float w[quantize::chunk], scale[quantize::chunk / size];
    importance<32>(x, weights, 2, w);
    fit_chunk(x, w, blocks, scale);
    bool stored = true;
    for (int64_t b = 0; b < blocks; b++, to += 18) {
        stored &= store_half(to, scale[b]);
        pack_group(x + b * size, reciprocal(scale[b]), to + 2);
    }
    return stored;
}

bool encode_iq4_xs(const float *x, const float *weights, int64_t blocks, uint8_t *to) {
    alignas(64) float w[quantize::chunk], scale[quantize::chunk / size];
    importance<256>(x, weights, 2, w);
    fit_chunk(x, w, 8 * blocks, scale);
    bool stored = true;
    for (int64_t b = 0; b < blocks; b++) stored &= pack_block(x + 256 * b, scale + 8 * b, to + 136 * b);
    return stored;
}

}  // namespace puna::PUNA_ISA
