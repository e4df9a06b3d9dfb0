// IQ1_S and IQ1_M (drawn in src/puna/quants/iq.py): levels to points of the grid, and what was found to blocks.

#include <algorithm>

#include "quantize/block_scale.h"
#include "quantize/closest.h"
#include "quantize/codec.h"
#include "quantize/importance.h"
#include "quantize/iq1_search.h"
#include "quantize/lanes.h"

namespace puna::PUNA_ISA {
namespace {

// Moves runs of 8 levels to points of the grid; the scale is fitted again where one was off it. `down` (runs): the mask
// of the shift.
template <int size> void to_grid(const Groups<size> &g, const Ternary<size> &found, const I *down, I *index, F &scale) {
    const Lattice &grid = lattice(Grid::IQ1_S);
    I again = {};
    F sum_xq = nothing(), sum_q2 = nothing();
    for (int r = 0; r < size / 8; r++) {
        I code = {};
        for (int a = 0; a < 8; a++) code |= found.levels[8 * r + a] << (2 * a);
        for (int lane = 0; lane < W; lane++) {
            const uint32_t cell = grid.cells[size_t(code[lane])];
            if (cell) {
                const float up = down[r][lane] ? -shift : shift, values[4] = {-1 + up, up, 1 + up, 0};
                const int at = lane * size + 8 * r;
                code[lane] = closest<2>(grid, cell, g.x_rows + at, g.w_rows + at, values, found.scale[lane]);
                again[lane] = -1;
            }
            index[r][lane] = grid.index[size_t(code[lane])];
        }
        for (int a = 0; a < 8; a++) {
            const int e = 8 * r + a;
            const F q = floats((code >> (2 * a) & 3) - 1) + where(down[r], set(-shift), set(shift)), wq = g.w[e] * q;
            sum_xq += wq * g.x[e];
            sum_q2 += wq * q;
        }
    }
    scale = where(again & (sum_xq > 0) & (sum_q2 > 0), sum_xq / sum_q2, found.scale);
}

// What was found for blocks that were searched together.
template <int size, int blocks> struct Found {
    static constexpr int groups = 256 * blocks / size;
    alignas(64) float scale[groups];
    uint8_t signs[groups];
    uint16_t index[32 * blocks];
};

template <int size, int parts, int blocks>
void search(const float *x, const float *w, float smallest, Found<size, blocks> &out) {
    constexpr int groups = Found<size, blocks>::groups, runs = size / 8;
    alignas(64) float by_x[256 * blocks], by_w[256 * blocks];
    by_group(x, size, groups, by_x);
    by_group(w, size, groups, by_w);
    for (int c = 0; c < groups; c += W) {
        Groups<size> g;
        for (int e = 0; e < size; e++) g.x[e] = load(by_x + e * groups + c), g.w[e] = load(by_w + e * groups + c);
        g.x_rows = x + c * size, g.w_rows = w + c * size;
        Ternary<size> found;
        ternary_fit<size, parts>(g, smallest, found);
        I down[runs], index[runs];
        for (int r = 0; r < runs; r++)
            down[r] = parts == 1 ? found.signs == 2 : r ? (found.signs & 1) == 0 : found.signs > 2;
        F scale;
        to_grid<size>(g, found, down, index, scale);
        store(out.scale + c, scale);
        for (int lane = 0; lane < W; lane++) {
            out.signs[c + lane] = uint8_t(found.signs[lane]);
            for (int r = 0; r < runs; r++)
                out.index[(c + lane) * runs + r] = uint16_t(index[r][lane] | (parts == 2 && down[r][lane] ? 2048 : 0));
        }
    }
}

// The unit of the scales that fits best, for points and factors already chosen.
float best_unit(const float *x, const float *w, const uint16_t *index, const uint8_t *factor) {
    const Lattice &grid = lattice(Grid::IQ1_S);
    float sum_xq = -0.0f, sum_q2 = -0.0f;
    for (int r = 0; r < 32; r++) {
        const float up = index[r] & 2048 ? -shift : shift, scale = float(1 + 2 * factor[r / 2]);
        for (int a = 0; a < 8; a++) {
            const float q = (float(grid.points[size_t(8 * (index[r] & 2047) + a)]) + up) * scale, wq = w[8 * r + a] * q;
            sum_xq += wq * x[8 * r + a];
            sum_q2 += wq * q;
        }
    }
    return sum_q2 > 0 ? sum_xq / sum_q2 : 0.0f;
}

bool pack_iq1_s(const float *scale, const uint8_t *signs, const uint16_t *index, uint8_t *to) {
    uint8_t factor[8];
    const float unit = block_scale(scale, 8, 15, 7, factor);
    if (unit == 0) std::memset(to, 0, 50);
    for (int g = 0; g < 8 && unit != 0; g++) {
        unsigned high = unsigned(factor[g] | (signs[g] == 2) << 3) << 12;
        for (int i = 0; i < 4; i++) {
            to[2 + 4 * g + i] = uint8_t(index[4 * g + i]);
            high |= unsigned(index[4 * g + i] >> 8) << 3 * i;
        }
        to[34 + 2 * g] = uint8_t(high), to[35 + 2 * g] = uint8_t(high >> 8);
    }
    return store_half(to, unit * 1.125f);
}

bool pack_iq1_m(const float *scale, const float *x, const float *w, uint16_t *index, uint8_t *to) {
    uint8_t factor[16], half[2];
    const float unit = block_scale(scale, 16, 15, 7, factor);
    const float fitting = unit == 0 ? 0.0f : best_unit(x, w, index, factor);
    for (int i = 0; i < 32; i++) {
        if (unit == 0) index[i] = 0;
        to[i] = uint8_t(index[i]);
    }
    for (int i = 0; i < 16; i++) to[32 + i] = uint8_t(index[2 * i] >> 8 | index[2 * i + 1] >> 8 << 4);
    const bool stored = store_half(half, fitting * 1.1125f);
    for (int i = 0; i < 4; i++) {
        unsigned word = unsigned(half[i / 2] >> 4 * (i % 2) & 15) << 12;
        for (int j = 0; j < 4; j++) word |= unsigned(factor[4 * i + j]) << 3 * j;
        to[48 + 2 * i] = uint8_t(word), to[49 + 2 * i] = uint8_t(word >> 8);
    }
    return stored;
}

}  // namespace

bool encode_iq1_s(const float *x, const float *weights, int64_t blocks, uint8_t *to) {
    constexpr int together = W == 16 ? 2 : 1;
    alignas(64) float w[quantize::chunk];
    importance<256>(x, weights, 2, w);
    bool stored = true;
    for (int64_t b = 0; b < blocks; b += together) {
        Found<32, together> found;
        search<32, 1, together>(x + 256 * b, w + 256 * b, 1e-12f, found);
        for (int64_t i = 0; i < std::min<int64_t>(together, blocks - b); i++, to += 50)
            stored &= pack_iq1_s(found.scale + 8 * i, found.signs + 8 * i, found.index + 32 * i, to);
    }
    return stored;
}

bool encode_iq1_m(const float *x, const float *weights, int64_t blocks, uint8_t *to) {
    alignas(64) float w[quantize::chunk];
    importance<256>(x, weights, 2, w);
    bool stored = true;
    for (int64_t b = 0; b < blocks; b++, to += 56) {
        Found<16, 1> found;
        search<16, 2, 1>(x + 256 * b, w + 256 * b, 1e-7f, found);
        stored &= pack_iq1_m(found.scale, x + 256 * b, w + 256 * b, found.index, to);
    }
    return stored;
}

}  // namespace puna::PUNA_ISA
