// The text of the kernels with memory per sequence (recurrent.h), compiled once for each instruction set.
//
// Tokens follow each other and every sum over keys has one order, so that a result does not depend on chunks.

#include "kernels/vec.h"
#include "recurrent.h"

namespace puna::PUNA_ISA {
namespace {

constexpr int wide = 4;  // vectors of values at once: chains of sums that hide an fma's latency

// One decay of all keys, or a decay for each in `decays`.
inline bool decay_of(const Head &head, const float *w, float *decays) {
    if (head.w_size == 1 && (!head.rates || head.rates_size == 1)) {
        decays[0] = head.rates ? std::exp(w[0] * head.rates[0]) : w[0];
        return true;
    }
    if (head.rates) {
        each(head.keys, [&](int64_t i, int some) {
            const V given = head.w_size == 1 ? set(w[0]) : load_some(w + i, some);
            const V rate = head.rates_size == 1 ? set(head.rates[0]) : load_some(head.rates + i, some);
            store_some(decays + i, exp(given * rate), some);
        });
    } else {
        each(head.keys, [&](int64_t i, int some) { store_some(decays + i, load_some(w + i, some), some); });
    }
    return false;
}

// `n` vectors of values (the only one may be partial) of all tokens: memory stays in the first-level cache meanwhile.
template <int n, bool added> void recur_values(const Head &head, float *memory, float *decays, int64_t at, int some) {
    const auto part = [&](const float *p, int j) { return n == 1 ? load_some(p, some) : load(p + j * W); };
    for (int64_t t = 0; t < head.tokens; t++) {
        const float *r = head.r + t * head.r_step, *k = head.k + t * head.k_step, *v = head.v + t * head.v_step + at;
        const float *a = head.a + t * head.a_step, *b = head.b + t * head.b_step;
        const bool one = decay_of(head, head.w + t * head.w_step, decays);
        V given[n], mixed[n], y[n];
        for (int j = 0; j < n; j++) given[j] = part(v, j), mixed[j] = y[j] = set(0);
        if (added) {
            for (int64_t i = 0; i < head.keys; i++) {
                const V factor = set(a[i]);
                for (int j = 0; j < n; j++) mixed[j] = fma(factor, part(memory + i * head.values + at, j), mixed[j]);
            }
        }
        for (int64_t i = 0; i < head.keys; i++) {
            float *kept = memory + i * head.values + at;
            const V decay = set(decays[one ? 0 : i]), key = set(k[i]), read = set(r[i]);
            for (int j = 0; j < n; j++) {
                V next = part(kept, j) * decay;
                if (added) next = fma(set(b[i]), mixed[j], next);
                next = fma(key, given[j], next);
                y[j] = fma(read, next, y[j]);
                n == 1 ? store_some(kept, next, some) : store(kept + j * W, next);
            }
        }
        float *out = head.y + t * head.y_step + at;
        for (int j = 0; j < n; j++) n == 1 ? store_some(out, y[j], some) : store(out + j * W, y[j]);
    }
}

// Heads of one value: vectors are of keys.
template <bool added> void recur_keys(const Head &head, float *memory, float *decays) {
    for (int64_t t = 0; t < head.tokens; t++) {
        const float *r = head.r + t * head.r_step, *k = head.k + t * head.k_step;
        const float *a = head.a + t * head.a_step, *b = head.b + t * head.b_step;
        const bool one = decay_of(head, head.w + t * head.w_step, decays);
        const V value = set(head.v[t * head.v_step]);
        V total = set(0), mixed = set(0);
        if (added) {
            each(head.keys, [&](int64_t i, int some) {
                mixed = fma(load_some(a + i, some), load_some(memory + i, some), mixed);
            });
            mixed = set(sum(mixed));
        }
        each(head.keys, [&](int64_t i, int some) {
            V next = load_some(memory + i, some) * (one ? set(decays[0]) : load_some(decays + i, some));
            if (added) next = fma(load_some(b + i, some), mixed, next);
            next = fma(load_some(k + i, some), value, next);
            total = fma(load_some(r + i, some), next, total);
            store_some(memory + i, next, some);
        });
        head.y[t * head.y_step] = sum(total);
    }
}

template <bool added> void recur_any(const Head &head, float *memory, float *decays) {
    if (head.values == 1) return recur_keys<added>(head, memory, decays);
    int64_t at = 0;
    for (; at + wide * W <= head.values; at += wide * W) recur_values<wide, added>(head, memory, decays, at, W);
    each(head.values - at, [&](int64_t i, int some) { recur_values<1, added>(head, memory, decays, at + i, some); });
}

void recur(const Head &head, float *memory, float *decays) {
    head.a ? recur_any<true>(head, memory, decays) : recur_any<false>(head, memory, decays);
}

void convolve(const Channels &c) {
    const int64_t before = c.length - 1;
    each(c.n, [&](int64_t i, int some) {
        for (int64_t t = 0; t < c.tokens; t++) {
            V y = set(0);
            for (int64_t j = 0; j < c.length; j++) {
                const int64_t place = t + j;  // among the rows before and the tokens
                if (place < before && !c.past) continue;
                const float *row = place < before ? c.past + place * c.past_step : c.x + (place - before) * c.x_step;
                y = fma(load_some(row + i, some), load_some(c.w + j * c.w_step + i, some), y);
            }
            store_some(c.y + t * c.y_step + i, y, some);
        }
    });
}

}  // namespace

extern const RecurrentKernels recurrent_kernels = {recur, convolve};

}  // namespace puna::PUNA_ISA
