// The text of the row kernels (rows.h), compiled once for each instruction set.

#include "kernels/kept_body.h"
#include "kernels/rows.h"
#include "kernels/vec.h"

namespace puna::PUNA_ISA {
namespace {

template <class F> float sum_over(int64_t n, F &&term) {  // four chains of additions; a tail of zeros adds nothing
    V total[4] = {set(0), set(0), set(0), set(0)};
    int64_t i = 0;
    for (; i + 4 * W <= n; i += 4 * W) {
        for (int j = 0; j < 4; j++) total[j] = total[j] + term(i + j * W, W);
    }
    each(n - i, [&](int64_t j, int some) { total[0] = total[0] + term(i + j, some); });
    return sum((total[0] + total[1]) + (total[2] + total[3]));
}

void rms_norm(const float *x, const float *w, const float *, float *out, int64_t n, float eps) {
    const float squares = sum_over(n, [&](int64_t i, int some) {
        const V v = load_some(x + i, some);
        return v * v;
    });
    const V scale = set(1.0f / std::sqrt(squares / float(n) + eps));
    each(n, [&](int64_t i, int some) {
        const V y = load_some(x + i, some) * scale;
        store_some(out + i, w ? y * load_some(w + i, some) : y, some);
    });
}

void layer_norm(const float *x, const float *w, const float *b, float *out, int64_t n, float eps) {
    const float mean = sum_over(n, [&](int64_t i, int some) { return load_some(x + i, some); }) / float(n);
    each(n, [&](int64_t i, int some) { store_some(out + i, load_some(x + i, some) - set(mean), some); });
    const float squares = sum_over(n, [&](int64_t i, int some) {
        const V v = load_some(out + i, some);
        return v * v;
    });
    const V scale = set(1.0f / std::sqrt(squares / float(n) + eps));
    each(n, [&](int64_t i, int some) {
        V y = load_some(out + i, some) * scale;
        if (w) y = y * load_some(w + i, some);
        if (b) y = y + load_some(b + i, some);
        store_some(out + i, y, some);
    });
}

void softmax(const float *x, const float *, const float *, float *out, int64_t n, float) {
    float top = -INFINITY;
    for (int64_t i = 0; i < n; i++) top = x[i] > top ? x[i] : top;
    each(n, [&](int64_t i, int some) { store_some(out + i, exp(load_some(x + i, some) - set(top)), some); });
    const V scale = set(1.0f / sum_over(n, [&](int64_t i, int some) { return load_some(out + i, some); }));
    each(n, [&](int64_t i, int some) { store_some(out + i, load_some(out + i, some) * scale, some); });
}

inline V sigmoid_of(V x) { return set(1.0f) / (set(1.0f) + exp(set(0.0f) - x)); }

inline V silu_of(V x) { return x / (set(1.0f) + exp(set(0.0f) - x)); }

inline V gelu_tanh_of(V x) {  // 0.5 x (1 + tanh u) = x / (1 + e^-2u)
    const V u = x * fma(set(0.044715f) * x, x, set(1.0f)) * set(-2 * 0.7978845608f);
    return x / (set(1.0f) + exp(u));
}

// x Phi(x); 1 - erf by Abramowitz and Stegun 7.1.26, absolute error 1.5e-7.
inline V gelu_of(V x) {
    const V z = vabs(x) * set(0.70710678f);
    const V t = set(1.0f) / fma(z, set(0.3275911f), set(1.0f));
    V p = fma(set(1.061405429f), t, set(-1.453152027f));
    p = fma(p, t, set(1.421413741f));
    p = fma(p, t, set(-0.284496736f));
    p = fma(p, t, set(0.254829592f));
    const V tail = set(0.5f) * p * t * exp(set(0.0f) - z * z);
    return x * where_negative(x, tail, set(1.0f) - tail);
}

template <V (*F)(V)> void activate(const float *x, const float *, const float *, float *out, int64_t n, float) {
    each(n, [&](int64_t i, int some) { store_some(out + i, F(load_some(x + i, some)), some); });
}

template <V (*F)(V)> void gate(const float *x, const float *up, const float *, float *out, int64_t n, float) {
    each(n,
         [&](int64_t i, int some) { store_some(out + i, F(load_some(x + i, some)) * load_some(up + i, some), some); });
}

void rotate(const float *x, const float *cos, const float *sin, float *out, int64_t turned, int64_t n, bool pairs) {
    const int64_t half = turned / 2;
    if (pairs) {
        each(turned, [&](int64_t i, int some) {
            const V v = load_some(x + i, some);
            store_some(out + i, fma(v, load_some(cos + i, some), swap_pairs(v) * load_some(sin + i, some)), some);
        });
    } else {
        each(half, [&](int64_t i, int some) {
            const V a = load_some(x + i, some), b = load_some(x + half + i, some);
            const V c = load_some(cos + i, some), s = load_some(sin + half + i, some);
            store_some(out + i, a * c - b * s, some);
            store_some(out + half + i, fma(a, s, b * c), some);
        });
    }
    if (out != x) std::memcpy(out + turned, x + turned, size_t(n - turned) * sizeof(float));
}

}  // namespace

extern const RowKernels row_kernels = {
    {rms_norm, layer_norm, softmax, activate<silu_of>, activate<gelu_of>, activate<gelu_tanh_of>, gate<silu_of>,
     gate<gelu_of>, gate<gelu_tanh_of>, activate<sigmoid_of>},
    rotate,
    keep_row,
    recall_row,
};

}  // namespace puna::PUNA_ISA
