// The search for grid points of the IQ2 and IQ3 types (src/puna/quants/iq_search.py says what it does), with a group of
// weights in each lane. It knows no block layout.
#pragma once

#include <algorithm>

#include "quantize/block_scale.h"
#include "quantize/closest.h"
#include "quantize/codec.h"
#include "quantize/importance.h"
#include "quantize/lanes.h"
#include "quantize/search.h"

namespace puna::PUNA_ISA {

PUNA_INLINE I clip(I v, int low, int high) { return smaller(larger(v, set_int(low)), set_int(high)); }

enum class Again { off, any, all };  // which runs are searched once more: those off the grid, all if any is, all

struct PointSearch {
    Grid grid;
    int top, tries;
    float step, fudge, smallest;
    bool even;
    Again again;
};

// What was found for a block. Groups and runs are in order; `unit` still lacks the type's fudge.
struct Points {
    float unit;
    uint8_t factor[16], signs[32];
    uint16_t index[64];
};

// W groups of `size` values, and the same again group after group. Runs are what one grid point stands for.
template <int bits, int size> struct Groups {
    static constexpr int axes = bits == 2 ? 8 : 4, runs = size / axes;
    F x[size], w[size];
    const float *rows, *roots;  // x, sqrt(w)
};

template <int bits, int size> struct Trial {
    I code[Groups<bits, size>::runs], exact[Groups<bits, size>::runs];
};

// The odd numbers that levels stand for.
constexpr float odd_levels[8] = {1, 3, 5, 7, 9, 11, 13, 15};

// Finds the code of each run at a scale; what is off the grid moves to a neighbour in the lanes that are `wanted`.
template <int bits, int size>
void snap(const Groups<bits, size> &g, const Lattice &grid, int top, F inverse, F scale, const I *wanted,
          Trial<bits, size> &out) {
    constexpr int axes = Groups<bits, size>::axes;
    for (int r = 0; r < size / axes; r++) {
        I code = {};
        for (int a = 0; a < axes; a++)
            code |= clip(nearest(0.5f * (inverse * g.x[r * axes + a] - 1.0f)), 0, top) << (bits * a);
        alignas(64) int32_t codes[W], exact[W], search[W];
        alignas(64) float scales[W];
        std::memcpy(codes, &code, sizeof codes);
        std::memcpy(search, wanted + r, sizeof search);
        store(scales, scale);
        for (int lane = 0; lane < W; lane++) {
            const uint32_t cell = grid.cells[size_t(codes[lane])];
            exact[lane] = cell ? 0 : -1;
            const int at = lane * size + r * axes;
            if (cell && search[lane])
                codes[lane] = closest<bits>(grid, cell, g.rows + at, g.roots + at, odd_levels, scales[lane]);
        }
        std::memcpy(&out.code[r], codes, sizeof codes);
        std::memcpy(&out.exact[r], exact, sizeof exact);
    }
}

// The w-weighted sums of x q and q q over each group.
template <int bits, int size> PUNA_INLINE void sums(const Groups<bits, size> &g, const I *code, F &sum_xq, F &sum_q2) {
    constexpr int axes = Groups<bits, size>::axes;
    sum_xq = sum_q2 = nothing();
    for (int r = 0; r < size / axes; r++)
        for (int a = 0; a < axes; a++) {
            const int e = r * axes + a;
            const F q = floats((code[r] >> (bits * a) & ((1 << bits) - 1)) * 2 + 1);
            sum_xq += g.w[e] * g.x[e] * q;
            sum_q2 += g.w[e] * q * q;
        }
}

// Chooses points once more at the scale found, and the best scale for those.
template <int bits, int size>
void refine(const Groups<bits, size> &g, const Lattice &grid, const PointSearch &s, Trial<bits, size> &found,
            F &scale) {
    constexpr int runs = Groups<bits, size>::runs;
    I chosen = scale > 0, all_exact = set_int(-1), wanted[runs];
    for (int r = 0; r < runs; r++) all_exact &= found.exact[r];
    if (s.again != Again::all) chosen &= ~all_exact;
    if (!any(chosen)) return;
    for (int r = 0; r < runs; r++) wanted[r] = s.again == Again::off ? chosen & ~found.exact[r] : chosen;
    Trial<bits, size> trial;
    snap(g, grid, s.top, 1.0f / scale, scale, wanted, trial);
    for (int r = 0; r < runs; r++) found.code[r] = where(wanted[r], trial.code[r], found.code[r]);
    F sum_xq, sum_q2;
    sums(g, found.code, sum_xq, sum_q2);
    scale = where(chosen & (sum_q2 > 0), sum_xq / sum_q2, scale);
}

// The magnitude that the largest level stands for, which groups are empty, and a first scale.
template <int bits, int size> F largest_of(const Groups<bits, size> &g, const PointSearch &s, F &scale, I &empty) {
    F peak = g.x[0];
    for (int e = 1; e < size; e++) peak = larger(g.x[e], peak);
    empty = s.smallest > 0 ? peak < s.smallest : peak == 0;
    scale = where(empty, set(1), peak) / float(2 * s.top + 1);
    if (s.again == Again::all) {
        I quants[size];
        positive_fit<size>(g.x, g.w, s.top + 2, scale, quants);
        peak = scale * float(s.top + 1);
        empty |= peak <= 0;
    }
    return where(empty, set(1), peak);
}

// Finds scale and codes of W groups with a small w-weighted error, and which groups are empty.
template <int bits, int size>
void fit(const Groups<bits, size> &g, const PointSearch &s, Trial<bits, size> &found, F &scale, I &empty) {
    constexpr int runs = Groups<bits, size>::runs;
    const Lattice &grid = lattice(s.grid);
    const F largest = largest_of(g, s, scale, empty);
    Trial<bits, size> trial;
    I wanted[runs];
    for (int r = 0; r < runs; r++) {
        wanted[r] = set_int(-1);
        found.code[r] = set_int(grid.codes[0]);
        found.exact[r] = set_int(s.again == Again::off ? -1 : 0);
    }
    F best = set(0), sum_xq, sum_q2;
    for (int i = -s.tries; i <= s.tries; i++) {
        const F inverse = (float(2 * s.top + 1) + float(i) * s.step) / largest;
        snap(g, grid, s.top, inverse, 1.0f / inverse, wanted, trial);
        sums(g, trial.code, sum_xq, sum_q2);
        const I better = (sum_q2 > 0) & (sum_xq * sum_xq > best * sum_q2);
        scale = where(better, sum_xq / sum_q2, scale);
        best = where(better, scale * sum_xq, best);
        for (int r = 0; r < runs; r++) {
            found.code[r] = where(better, trial.code[r], found.code[r]);
            found.exact[r] = where(better, trial.exact[r], found.exact[r]);
        }
    }
    refine(g, grid, s, found, scale);
}

// Writes magnitudes, and the signs of runs of 8 as bits. Where the number of minus signs has to be even and is not, the
// least important value gets the wrong sign: its magnitude is negative.
inline void split_signs(const float *x, const float *w, int count, bool even, float *magnitudes, uint8_t *signs) {
    for (int run = 0; run < count; run += 8) {
        unsigned bits = 0;
        for (int j = 0; j < 8; j++) {
            const float v = x[run + j];
            bits |= unsigned(v < 0) << j;
            magnitudes[run + j] = v < 0 ? -v : v;
        }
        if (even && __builtin_parity(bits)) {
            int least = 0;
            float lowest = w[run] * x[run] * x[run];
            for (int j = 1; j < 8; j++)
                if (const float e = w[run + j] * x[run + j] * x[run + j]; e < lowest) least = j, lowest = e;
            magnitudes[run + least] = -magnitudes[run + least];
            bits ^= 1u << least;
        }
        signs[run / 8] = uint8_t(bits);
    }
}

// Blocks of 256 that are searched at once, so that their groups fill the lanes.
template <int size> constexpr int batch = W * size > 256 ? W * size / 256 : 1;

// Scales, points and signs of groups, in order.
template <int groups, int size> struct Searched {
    alignas(64) float scale[groups];
    uint16_t index[groups * size / 4];  // half as many where a point is 8 values
    uint8_t signs[groups * size / 8];
};

// Keeps what was found for W groups, from group `at` on. A negative scale turns all signs; an empty group is zeros.
template <int bits, int size, int groups>
void keep(const Lattice &grid, const Trial<bits, size> &found, F scale, I empty, int at, Searched<groups, size> &out) {
    constexpr int runs = Groups<bits, size>::runs;
    scale = where(empty, set(0), scale);
    store(out.scale + at, absolute(scale));
    for (int lane = 0; lane < W; lane++) {
        for (int r = 0; r < runs; r++)
            out.index[(at + lane) * runs + r] = empty[lane] ? 0 : grid.index[size_t(found.code[r][lane])];
        for (int i = (at + lane) * size / 8; i < (at + lane + 1) * size / 8; i++)
            out.signs[i] = empty[lane] ? 0 : scale[lane] < 0 ? uint8_t(~out.signs[i]) : out.signs[i];
    }
}

// Searches `batch` blocks of x with weights w.
template <int bits, int size> void search_points(const PointSearch &s, const float *x, const float *w, Points *out) {
    constexpr int count = 256 * batch<size>, groups = count / size, per_block = 256 / size,
                  runs = per_block * Groups<bits, size>::runs;
    alignas(64) float rows[count], roots[count], by_x[count], by_w[count];
    Searched<groups, size> all;
    split_signs(x, w, count, s.even, rows, all.signs);
    for (int i = 0; i < count; i += W) store(roots + i, root(load(w + i)));
    by_group(rows, size, groups, by_x);
    by_group(w, size, groups, by_w);
    for (int at = 0; at < groups; at += W) {
        Groups<bits, size> g;
        for (int e = 0; e < size; e++) g.x[e] = load(by_x + e * groups + at), g.w[e] = load(by_w + e * groups + at);
        g.rows = rows + at * size, g.roots = roots + at * size;
        Trial<bits, size> found;
        F scale;
        I empty;
        fit(g, s, found, scale, empty);
        keep(lattice(s.grid), found, scale, empty, at, all);
    }
    for (int b = 0; b < batch<size>; b++) {
        out[b].unit = block_scale(all.scale + b * per_block, per_block, 31, 15, out[b].factor);
        const bool zeros = out[b].unit == 0;
        for (int r = 0; r < runs; r++) out[b].index[r] = zeros ? 0 : all.index[b * runs + r];
        for (int i = 0; i < 32; i++) out[b].signs[i] = zeros ? 0 : all.signs[32 * b + i];
    }
}

}  // namespace puna::PUNA_ISA
