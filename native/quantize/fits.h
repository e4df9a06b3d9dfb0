// The searches over a whole chunk: what they found for each group, by its number. It knows no block.
#pragma once

#include "quantize/codec.h"
#include "quantize/search.h"

namespace puna::PUNA_ISA {

template <int size> struct Fits {
    static constexpr int groups = quantize::chunk / size;
    alignas(64) float scale[groups], minimum[groups], inverse[groups], base[groups], share[groups];
    alignas(64) int32_t empty[groups];

    void keep(int group, const Fit &fit) {
        for (int u = 0; u < U; u++) {
            const int at = group + u * W;
            store(scale + at, fit.scale[u]);
            store(minimum + at, fit.minimum[u]);
            store(inverse + at, fit.inverse[u]);
            store(base + at, fit.base[u]);
            store(share + at, fit.share[u]);
            std::memcpy(empty + at, &fit.empty[u], sizeof fit.empty[u]);
        }
    }

    // The quants low..high of `x` that the search found for a group, counted from 0.
    void quants(const float *x, int group, int low, int high, uint8_t *q) const {
        for (int i = 0; i < size; i += W) {
            const I near = nearest(inverse[group] * (load(x + i) - base[group]));
            const I level = smaller(larger(near, set_int(low)), set_int(high)) - low;
            store_bytes(q + i, empty[group] ? set_int(0) : level);
        }
    }
};

// The root mean square of each group plus |x|: the weights of Q4_K and Q5_K without importance.
template <int size> PUNA_INLINE void plain_weights(const float *x, float *w) {
    F sum[U] = {};
    for (int i = 0; i < size; i++)
        for (int u = 0; u < U; u++) {
            const F value = load(x + i * searched + u * W);
            sum[u] += value * value;
        }
    for (int u = 0; u < U; u++) sum[u] = root(sum[u] / float(size));
    for (int i = 0; i < size; i++)
        for (int u = 0; u < U; u++) store(w + i * searched + u * W, sum[u] + absolute(load(x + i * searched + u * W)));
}

// affine_fit of the groups of `blocks` blocks; without weights: |x| (magnitudes), or that of plain_weights.
template <int size, bool magnitudes>
void affine_fits(const float *x, const float *weights, float top, Steps steps, int64_t used, Fits<size> &fits) {
    alignas(64) float turned[size * searched], w[size * searched];
    for (int group = 0; group < used; group += searched) {
        Fit fit;
        by_group(x + group * size, size, searched, turned);
        if (weights) {
            by_group(weights + group * size, size, searched, w);
            affine_fit<size, false>(turned, w, top, steps, fit);
        } else {
            if constexpr (magnitudes)
                for (int i = 0; i < size * searched; i += W) store(w + i, absolute(load(turned + i)));
            else plain_weights<size>(turned, w);
            affine_fit<size, magnitudes>(turned, w, top, steps, fit);
        }
        fits.keep(group, fit);
    }
}

template <int size>
void symmetric_fits(const float *x, const float *weights, float top, int64_t used, Fits<size> &fits) {
    alignas(64) float turned[size * searched], w[size * searched];
    for (int group = 0; group < used; group += searched) {
        Fit fit;
        by_group(x + group * size, size, searched, turned);
        if (weights) by_group(weights + group * size, size, searched, w);
        symmetric_fit<size>(turned, weights ? w : nullptr, top, fit);
        fits.keep(group, fit);
    }
}

}  // namespace puna::PUNA_ISA
