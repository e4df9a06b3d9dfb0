// Kernels with memory per sequence: a head's recurrence over its tokens, and convolutions over the latest rows.
#pragma once

#include <cstdint>

namespace puna {

// One head's rows of consecutive tokens: each pointer is at the first, `*_step` floats before the next. `a` and `b` may
// be null. The decays are w, or with `rates` exp(w * rates); there are `w_size` and `rates_size` of them, 1 or `keys`.
struct Head {
    const float *r, *w, *k, *v, *a, *b, *rates;
    float *y;
    int64_t r_step, w_step, k_step, v_step, a_step, b_step, y_step;
    int64_t w_size, rates_size, tokens, keys, values;
};

// So many channels of consecutive tokens of one sequence. `past` (length - 1, n) has the rows before them, null for
// zeros; `w` (length, n).
struct Channels {
    const float *x, *w, *past;
    float *y;
    int64_t x_step, w_step, past_step, y_step;
    int64_t tokens, length, n;
};

struct RecurrentKernels {
    void (*recur)(const Head &head, float *memory, float *decays);  // memory (keys, values); room for `keys` decays
    void (*convolve)(const Channels &channels);
};

}  // namespace puna
