// IQ1_S and IQ1_M: three levels, shifted by 1/8 up or down (src/puna/quants/iq1_search.py says what is searched, iq.py
// draws the blocks). A lane holds a group.

#include <algorithm>

#include "quantize/block_scale.h"
#include "quantize/closest.h"
#include "quantize/codec.h"
#include "quantize/importance.h"
#include "quantize/lanes.h"

namespace puna::PUNA_ISA {
namespace {

constexpr float shift = 0.125f;

// W groups of `size` values; the same again group after group.
template <int size> struct Groups {
    F x[size], w[size];
    const float *x_rows, *w_rows;
};

// What was found: scale >= 0, the level 0 .. 2 of each value, and the code of the signs of the shift, or 0 for no fit.
// Code 1 is up (of two halves: up, up), then up-down, down-up, and down.
template <int size> struct Ternary {
    F scale;
    I levels[size], signs;
};

// The best so far: scale, score, and the two places where sorted values are cut into levels.
struct Cuts {
    F scale = set(0), score = set(-3.402823466e38f);
    I first = {}, second = {}, signs = {};

    PUNA_INLINE void improve(F sum_xq, F sum_q2, int at, int then, int code) {
        const I better = (sum_xq * sum_xq > score * sum_q2) & (sum_q2 > 0);
        const F fitting = sum_xq / sum_q2;
        scale = where(better, fitting, scale);
        score = where(better, fitting * sum_xq, score);
        first = where(better, set_int(at), first);
        second = where(better, set_int(then), second);
        signs = where(better, set_int(code), signs);
    }
};

// Sorts each lane, equal values staying in order: order[rank] becomes the element. (Batcher's odd-even merge sort.)
template <int size> void sort_lanes(F *x, I *order) {
    for (int e = 0; e < size; e++) order[e] = set_int(e);
    for (int p = 1; p < size; p *= 2)
        for (int k = p; k >= 1; k /= 2)
            for (int j = k % p; j + k < size; j += 2 * k)
                for (int i = j; i < std::min(j + k, size - k); i++) {
                    if (i / (2 * p) != (i + k) / (2 * p)) continue;
                    const I swap = (x[i] > x[i + k]) | ((x[i] == x[i + k]) & (order[i] > order[i + k]));
                    const F low = where(swap, x[i + k], x[i]);
                    x[i + k] = where(swap, x[i], x[i + k]);
                    x[i] = low;
                    const I at = where(swap, order[i + k], order[i]);
                    order[i + k] = where(swap, order[i], order[i + k]);
                    order[i] = at;
                }
}

// Values in the order of their ranks.
template <int size> void permute(const F *from, const I *order, F *to) {
    alignas(64) float rows[size * W];
    for (int e = 0; e < size; e++) store(rows + e * W, from[e]);
    for (int e = 0; e < size; e++)
        for (int lane = 0; lane < W; lane++) to[e][lane] = rows[order[e][lane] * W + lane];
}

// total[i] is the sum of the first i.
template <int size> void running(const F *from, F *total) {
    total[0] = set(0);
    F sum = nothing();
    for (int e = 0; e < size; e++) total[e + 1] = sum += from[e];
}

// Tries every pair of cuts and one shift for all; arguments are in the order of the values.
template <int size> void try_whole(const F *wx, const F *w, const I *, Cuts &best) {
    constexpr float levels[2][3] = {{-1 + shift, shift, 1 + shift}, {-1 - shift, -shift, 1 - shift}};
    F of_x[size + 1], of_w[size + 1];
    running<size>(wx, of_x);
    running<size>(w, of_w);
    for (int i = 0; i <= size; i++)
        for (int j = i; j <= size; j++) {
            const F x[3] = {of_x[i] - of_x[0], of_x[j] - of_x[i], of_x[size] - of_x[j]};
            const F q[3] = {of_w[i] - of_w[0], of_w[j] - of_w[i], of_w[size] - of_w[j]};
            for (int code = 0; code < 2; code++) {
                const float *l = levels[code];
                best.improve(x[0] * l[0] + x[1] * l[1] + x[2] * l[2],
                             q[0] * l[0] * l[0] + q[1] * l[1] * l[1] + q[2] * l[2] * l[2], i, j, code + 1);
            }
        }
}

// The sums of x q and q q over a half of a group, for every pair of cuts.
template <int size> struct HalfSums {
    F x[size + 1], w[size + 1];

    PUNA_INLINE void at(int first, int second, float up, F &sum_xq, F &sum_q2) const {
        const float low = -1 + up, middle = up, high = 1 + up;
        sum_xq = x[size] * high - (x[first] + x[second]);
        sum_q2 = w[size] * high * high + w[first] * (low * low - middle * middle);
        sum_q2 = sum_q2 + w[second] * (middle * middle - high * high);
    }
};

// Tries every pair of cuts and a shift for each half.
template <int size> void try_halves(const F *wx, const F *w, const I *order, Cuts &best) {
    HalfSums<size> halves[2];
    for (int h = 0; h < 2; h++) {
        F x_part[size], w_part[size];
        for (int e = 0; e < size; e++) {
            const I inside = (order[e] >= size / 2) == -h;
            x_part[e] = where(inside, wx[e], set(0));
            w_part[e] = where(inside, w[e], set(0));
        }
        running<size>(x_part, halves[h].x);
        running<size>(w_part, halves[h].w);
    }
    for (int i = 0; i <= size; i++)
        for (int j = i; j <= size; j++) {
            F xq[2][2], q2[2][2];
            for (int h = 0; h < 2; h++)
                for (int down = 0; down < 2; down++) halves[h].at(i, j, down ? -shift : shift, xq[h][down], q2[h][down]);
            for (int code = 0; code < 4; code++)
                best.improve(xq[0][code / 2] + xq[1][code % 2], q2[0][code / 2] + q2[1][code % 2], i, j, code + 1);
        }
}

// Fits scale, levels and signs of W groups of one part or two; groups below `smallest` and those without a fit are zeros,
// which ggml would leave the first point of the grid.
template <int size, int parts> void ternary_fit(const Groups<size> &g, float smallest, Ternary<size> &out) {
    F sorted[size], wx[size], w[size];
    I order[size];
    F peak = set(0);
    for (int e = 0; e < size; e++) {
        sorted[e] = g.x[e];
        wx[e] = g.w[e] * g.x[e];
        peak = larger(absolute(g.x[e]), peak);
    }
    sort_lanes<size>(sorted, order);
    permute<size>(wx, order, sorted);
    permute<size>(g.w, order, w);
    Cuts best;
    (parts == 1 ? try_whole<size> : try_halves<size>)(sorted, w, order, best);
    const I negative = best.scale < 0, empty = (best.signs == 0) | (peak < smallest);
    out.scale = where(empty, set(0), absolute(best.scale));
    out.signs = where(empty, set_int(1), where(negative, (1 << parts) + 1 - best.signs, best.signs));
    for (int e = 0; e < size; e++) {
        const I level = -((set_int(e) >= best.first) + (set_int(e) >= best.second));
        const I kept = where(empty, set_int(1), where(negative, 2 - level, level));
        for (int lane = 0; lane < W; lane++) out.levels[order[e][lane]][lane] = kept[lane];
    }
}

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

template <int size, int parts, int blocks> void search(const float *x, const float *w, float smallest, Found<size, blocks> &out) {
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
        for (int r = 0; r < runs; r++) down[r] = parts == 1 ? found.signs == 2 : r ? (found.signs & 1) == 0 : found.signs > 2;
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
