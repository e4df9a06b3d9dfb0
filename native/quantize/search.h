// The searches for block scales of the K types, and of the legacy types with importance: U vectors of groups at once, a
// lane a group, in ggml's order of operations (src/puna/quants/search.py has the same in numpy). They know no block.
//
// Groups are given turned (by_group): element i of all groups, then element i + 1.
#pragma once

#include "quantize/lanes.h"

namespace puna::PUNA_ISA {

constexpr int U = 2;              // vectors at once: two chains of additions hide each other's latency
constexpr int searched = U * W;   // groups at once
constexpr float smallest = 1e-15f;  // a group whose largest magnitude is below this counts as zero

// What a search found: x ~ scale * q - minimum, where q is inverse * (x - base) rounded to lie within bounds.
struct Fit {
    F scale[U], minimum[U], inverse[U], base[U], share[U];  // share: the sum of the weights
    I empty[U];
};

struct Steps {  // shifts of the number of levels: first, first + step ... count times after the first
    float first, step;
    int count;
};

// The inverse scales of one step, and whether a quant may lie beyond what `whole` rounds.
PUNA_INLINE bool beyond(const F *inverse, const F *low, const F *high, const F *base, const I *empty) {
    I outside{};
    for (int u = 0; u < U; u++) {
        const F a = absolute(inverse[u] * (low[u] - base[u])), b = absolute(inverse[u] * (high[u] - base[u]));
        outside |= ~((a < 4194303.0f) & (b < 4194303.0f)) & ~empty[u];
    }
    return any(outside);
}

template <bool wraps> PUNA_INLINE F rounded(F v) {
    if constexpr (wraps) return floats(nearest(v));
    return whole(v);
}

struct Sums {
    F q[U], q2[U], xq[U];
};

// Quants 0..top of (x - base) * inverse, and their sums.
template <int size, bool wraps>
PUNA_INLINE void grid(const float *x, const float *w, const F *base, const F *inverse, float top, float *q,
                      Sums &sums) {
    sums = {};
    for (int i = 0; i < size; i++)
        for (int u = 0; u < U; u++) {
            const int at = i * searched + u * W;
            const F value = load(x + at);
            const F level = smaller(larger(rounded<wraps>((value - base[u]) * inverse[u]), set(0)), set(top));
            const F weighted = load(w + at) * level;
            sums.q[u] += weighted;
            sums.q2[u] += weighted * level;
            sums.xq[u] += weighted * value;
            store(q + at, level);
        }
}

// The weighted sum of (scale * q + minimum - x) ^ 2, or of its magnitude.
template <int size, bool magnitudes>
PUNA_INLINE void total_error(const float *x, const float *w, const float *q, const F *scale, const F *minimum,
                             F *error) {
    for (int u = 0; u < U; u++) error[u] = set(0);
    for (int i = 0; i < size; i++)
        for (int u = 0; u < U; u++) {
            const int at = i * searched + u * W;
            const F difference = (load(q + at) * scale[u] + minimum[u]) - load(x + at);
            error[u] += (magnitudes ? absolute(difference) : difference * difference) * load(w + at);
        }
}

// The smallest value (at most 0) and the largest, the sums of the weights and of the weighted values.
template <int size> PUNA_INLINE void survey(const float *x, const float *w, F *low, F *high, F *sum_w, F *sum_x) {
    for (int u = 0; u < U; u++) {
        low[u] = high[u] = load(x + u * W);
        sum_w[u] = sum_x[u] = set(0);
    }
    for (int i = 0; i < size; i++)
        for (int u = 0; u < U; u++) {
            const F value = load(x + i * searched + u * W), weight = load(w + i * searched + u * W);
            low[u] = smaller(value, low[u]);
            high[u] = larger(value, high[u]);
            sum_w[u] += weight;
            sum_x[u] += weight * value;
        }
    for (int u = 0; u < U; u++) low[u] = where(low[u] > 0, set(0), low[u]);
}

// The best scale and minimum <= 0 for some quants, given their sums; where there is one.
PUNA_INLINE I least_squares(const Sums &sums, int u, F sum_w, F sum_x, F &scale, F &minimum) {
    const F determinant = sum_w * sums.q2[u] - sums.q[u] * sums.q[u];
    const F lowest = (sums.q2[u] * sum_x - sums.q[u] * sums.xq[u]) / determinant;
    const I above = lowest > 0;
    scale = where(above, sums.xq[u] / sums.q2[u], (sum_w * sums.xq[u] - sum_x * sums.q[u]) / determinant);
    minimum = where(above, set(0), lowest);
    return determinant > 0;
}

// Scale and minimum >= 0 such that the w-weighted error of quants 0..top is small. As ggml's make_qkx2_quants.
template <int size, bool magnitudes> void affine_fit(const float *x, const float *w, float top, Steps steps, Fit &fit) {
    alignas(64) float q[size * searched];
    Sums sums;
    F low[U], high[U], sum_x[U], best[U];
    const auto levels = [&](const F *base, const F *inverse) {
        if (beyond(inverse, low, high, base, fit.empty)) grid<size, true>(x, w, base, inverse, top, q, sums);
        else grid<size, false>(x, w, base, inverse, top, q, sums);
    };
    survey<size>(x, w, low, high, fit.share, sum_x);
    for (int u = 0; u < U; u++) {
        fit.empty[u] = high[u] == low[u];
        fit.inverse[u] = top / where(fit.empty[u], set(1), high[u] - low[u]);
        fit.scale[u] = 1.0f / fit.inverse[u];
        fit.minimum[u] = fit.base[u] = low[u];
    }
    levels(low, fit.inverse);
    total_error<size, magnitudes>(x, w, q, fit.scale, low, best);
    for (int u = 0; u < U; u++) best[u] = where(fit.empty[u], set(-1), best[u]);
    for (int step = 0; step <= steps.count; step++) {
        const float shift = steps.first + steps.step * float(step) + top;
        F inverse[U], scale[U], minimum[U], error[U];
        I solvable[U];
        for (int u = 0; u < U; u++) inverse[u] = shift / (high[u] - fit.minimum[u]);
        levels(fit.minimum, inverse);
        for (int u = 0; u < U; u++)
            solvable[u] = least_squares(sums, u, fit.share[u], sum_x[u], scale[u], minimum[u]);
        total_error<size, magnitudes>(x, w, q, scale, minimum, error);
        for (int u = 0; u < U; u++) {
            const I better = solvable[u] & (error[u] < best[u]);
            fit.base[u] = where(better, fit.minimum[u], fit.base[u]);
            fit.inverse[u] = where(better, inverse[u], fit.inverse[u]);
            fit.scale[u] = where(better, scale[u], fit.scale[u]);
            best[u] = where(better, error[u], best[u]);
            fit.minimum[u] = where(better, minimum[u], fit.minimum[u]);
        }
    }
    for (int u = 0; u < U; u++) {
        fit.scale[u] = where(fit.empty[u], set(0), fit.scale[u]);
        fit.minimum[u] = -fit.minimum[u];
    }
}

// The first value of the largest magnitude, 1 where that is almost zero.
template <int size> PUNA_INLINE void extremes(const float *x, F *extreme, I *empty) {
    F largest[U];
    for (int u = 0; u < U; u++) extreme[u] = largest[u] = set(0);
    for (int i = 0; i < size; i++)
        for (int u = 0; u < U; u++) {
            const F value = load(x + i * searched + u * W), magnitude = absolute(value);
            extreme[u] = where(magnitude > largest[u], value, extreme[u]);
            largest[u] = larger(magnitude, largest[u]);
        }
    for (int u = 0; u < U; u++) {
        empty[u] = largest[u] < smallest;
        extreme[u] = where(empty[u], set(1), extreme[u]);
    }
}

// The scale such that the w-weighted square error of quants -top..top - 1 is small; each value is weighted by its
// square where w is null. As ggml's make_qx_quants.
template <int size> void symmetric_fit(const float *x, const float *w, float top, Fit &fit) {
    alignas(64) float weighted[size * searched], squares[size * searched];
    F extreme[U], best[U];
    extremes<size>(x, extreme, fit.empty);
    for (int u = 0; u < U; u++) {
        fit.scale[u] = fit.minimum[u] = fit.base[u] = fit.share[u] = best[u] = set(0);
        fit.inverse[u] = -top / extreme[u];
    }
    if (!w) {
        for (int i = 0; i < size * searched; i += W) store(squares + i, load(x + i) * load(x + i));
        w = squares;
    }
    for (int i = 0; i < size; i++)
        for (int u = 0; u < U; u++) {
            const int at = i * searched + u * W;
            fit.share[u] += load(w + at);
            store(weighted + at, load(w + at) * load(x + at));
        }
    for (int step = 0; step < 19; step++) {
        const int shift = step == 0 ? 0 : step <= 9 ? step - 10 : step - 9;  // 0, -9 ... -1, 1 ... 9
        F inverse[U], sum_xq[U], sum_q2[U];
        for (int u = 0; u < U; u++) {
            inverse[u] = -(top + 0.1f * float(shift)) / extreme[u];
            sum_xq[u] = sum_q2[u] = set(0);
        }
        for (int i = 0; i < size; i++)
            for (int u = 0; u < U; u++) {
                const int at = i * searched + u * W;
                const F q = smaller(larger(whole(load(x + at) * inverse[u]), set(-top)), set(top - 1));
                sum_xq[u] += load(weighted + at) * q;
                sum_q2[u] += load(w + at) * q * q;
            }
        for (int u = 0; u < U; u++) {
            const I better =
                step == 0 ? sum_q2[u] != 0 : (sum_q2[u] > 0) & (sum_xq[u] * sum_xq[u] > best[u] * sum_q2[u]);
            fit.scale[u] = where(better, sum_xq[u] / sum_q2[u], fit.scale[u]);
            best[u] = where(better, fit.scale[u] * sum_xq[u], best[u]);
            fit.inverse[u] = where(better, inverse[u], fit.inverse[u]);
        }
    }
    for (int u = 0; u < U; u++) fit.scale[u] = where(fit.empty[u], set(0), fit.scale[u]);
}

struct Moved {
    F sum_xq, sum_q2;
};

// Moves one quant to its best value where that fits better. `unsigned_`: it may be 0 to 255 (ggml keeps a byte) instead
// of low and more.
template <bool unsigned_> PUNA_INLINE void improve(F x, F w, I &q, Moved &sums, int low, int top) {
    const F old = floats(q), wx = w * x;
    F xq = sums.sum_xq - wx * old, q2 = sums.sum_q2 - w * old * old;
    I moved = smaller(nearest(x * q2 / xq), set_int(top));
    if constexpr (!unsigned_) moved = larger(moved, set_int(low));
    I possible = (xq > 0) & (moved != q);
    if constexpr (unsigned_) possible &= q2 > 0;
    const F now = floats(moved);
    xq += wx * now;
    q2 += w * now * now;
    const I better = possible & (q2 > 0) & (xq * xq * sums.sum_q2 > sums.sum_xq * sums.sum_xq * q2);
    q = where(better, unsigned_ ? moved & 255 : moved, q);
    sums.sum_xq = where(better, xq, sums.sum_xq);
    sums.sum_q2 = where(better, q2, sums.sum_q2);
}

// The scale by moving one quant of -top..top - 1 at a time, five rounds; weights are squares. `levels` are the quants
// plus top. As ggml's make_q3_quants.
template <int size> void stepwise_fit(const float *x, int top, F *scale, uint8_t *levels) {
    F extreme[U];
    I empty[U], q[size][U];
    Moved sums[U] = {};
    extremes<size>(x, extreme, empty);
    for (int i = 0; i < size; i++)
        for (int u = 0; u < U; u++) {
            const F value = load(x + i * searched + u * W), w = value * value;
            q[i][u] = smaller(larger(nearest(float(-top) / extreme[u] * value), set_int(-top)), set_int(top - 1));
            const F level = floats(q[i][u]);
            sums[u].sum_xq += w * value * level;
            sums[u].sum_q2 += w * level * level;
        }
    for (int round = 0; round < 5; round++)
        for (int i = 0; i < size; i++)
            for (int u = 0; u < U; u++) {
                const F value = load(x + i * searched + u * W);
                improve<false>(value, value * value, q[i][u], sums[u], -top, top - 1);
            }
    for (int u = 0; u < U; u++) {
        scale[u] = where(~empty[u] & (sums[u].sum_q2 > 0), sums[u].sum_xq / sums[u].sum_q2, set(0));
        for (int i = 0; i < size; i++)
            store_bytes(levels + i * searched + u * W, where(empty[u], set_int(0), q[i][u] + top));
    }
}

template <int size> PUNA_INLINE F scale_error(const F *x, const F *w, F inverse, int top, bool bytes) {
    const F step = 1.0f / inverse;
    F total = set(0);
    for (int i = 0; i < size; i++) {
        const I near = nearest(inverse * x[i]);
        const F difference = x[i] - step * floats(bytes ? near & 255 : smaller(near, set_int(top)));
        total += w[i] * difference * difference;
    }
    return total;
}

// One scale for positive values, with quants 0..top. As ggml's make_qp_quants: a search for the w-weighted error, then
// five rounds of moving one quant at a time.
template <int size> void positive_fit(const F *x, const F *w, int top, F &scale, I *q) {
    F peak = x[0];
    for (int i = 1; i < size; i++) peak = larger(x[i], peak);
    const I empty = peak < smallest;
    peak = where(empty, set(1), peak);
    F chosen = float(top) / peak, best = scale_error<size>(x, w, chosen, top, true);
    for (int shift = -4; shift <= 4; shift++) {
        if (shift == 0) continue;
        const F inverse = (0.1f * float(shift) + float(top)) / peak,
                error = scale_error<size>(x, w, inverse, top, false);
        const I better = error < best;
        best = where(better, error, best);
        chosen = where(better, inverse, chosen);
    }
    Moved sums{set(0), set(0)};
    for (int i = 0; i < size; i++) {
        q[i] = smaller(nearest(chosen * x[i]), set_int(top));
        const F level = floats(q[i]);
        sums.sum_xq += w[i] * x[i] * level;
        sums.sum_q2 += w[i] * level * level;
        q[i] &= 255;
    }
    for (int round = 0; round < 5; round++)
        for (int i = 0; i < size; i++) improve<true>(x[i], w[i], q[i], sums, 0, top);
    scale = where(~empty & (sums.sum_q2 > 0), sums.sum_xq / sums.sum_q2, set(0));
    for (int i = 0; i < size; i++) q[i] = where(empty, set_int(0), q[i]);
}

}  // namespace puna::PUNA_ISA
