// The weights of the errors in ggml's searches for IQ types.
#pragma once

#include "quantize/codec.h"
#include "quantize/lanes.h"

namespace puna::PUNA_ISA {

// Sums start here: -0 + x is x, whatever the sign of a zero.
PUNA_INLINE F nothing() { return from_bits(set_int(INT32_MIN)); }

// The sum of squares of a block, one after the other.
inline float sum_of_squares(const float *x, int size) {
    float sum = -0.0f;
    for (int i = 0; i < size; i++) sum += x[i] * x[i];
    return sum;
}

// Writes, for a chunk in blocks of `size`: importance times sqrt(spread * mean square of the block + x^2), or x^2 where
// there is no importance.
template <int size> void importance(const float *x, const float *given, int spread, float *w) {
    for (int at = 0; at < quantize::chunk; at += size) {
        const float mean = given ? float(spread) * sum_of_squares(x + at, size) / float(size) : 0.0f;
        for (int i = at; i < at + size; i += W) {
            const F square = load(x + i) * load(x + i);
            store(w + i, given ? load(given + i) * root(mean + square) : square);
        }
    }
}

}  // namespace puna::PUNA_ISA
