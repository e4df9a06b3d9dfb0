// The search for three levels that IQ1_S and IQ1_M use (src/puna/quants/iq1_search.py says what it does), with a group
// of weights in each lane. It knows no block layout and no grid.
#pragma once

#include <algorithm>

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
                for (int down = 0; down < 2; down++)
                    halves[h].at(i, j, down ? -shift : shift, xq[h][down], q2[h][down]);
            for (int code = 0; code < 4; code++)
                best.improve(xq[0][code / 2] + xq[1][code % 2], q2[0][code / 2] + q2[1][code % 2], i, j, code + 1);
        }
}

// Fits scale, levels and signs of W groups of one part or two; groups below `smallest` and those without a fit are
// zeros, which ggml would leave the first point of the grid.
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

}  // namespace
}  // namespace puna::PUNA_ISA
