// How rows of floats are kept in states, and read back. Text compiled once for each instruction set.
#pragma once

#include "kernels/rows.h"
#include "kernels/vec.h"

namespace puna::PUNA_ISA {
namespace {

// ggml's reference: scale by the largest magnitude over 127, halves away from zero. Where a value is not finite, the
// scale is NaN, and so are all 32.
inline void keep_q8_0(const float *x, uint8_t *out, int64_t n) {
    for (int64_t block = 0; block < n / 32; block++, x += 32, out += 34) {
        float top = 0, total = 0;
        for (int i = 0; i < 32; i++) top = std::fmax(top, std::fabs(x[i])), total += x[i] - x[i];
        const float d = top / 127, inverse = d > 1e-30f && total == 0 ? 1 / d : 0;
        const uint16_t scale = float_to_half(total == 0 ? d : NAN);
        std::memcpy(out, &scale, 2);
        if (inverse == 0) {
            std::memset(out + 2, 0, 32);
            continue;
        }
        for (int i = 0; i < 32; i++) out[2 + i] = uint8_t(int8_t(std::round(x[i] * inverse)));
    }
}

inline void recall_q8_0(const uint8_t *x, float *out, int64_t n) {
    for (int64_t block = 0; block < n / 32; block++, x += 34, out += 32) {
        uint16_t scale;
        std::memcpy(&scale, x, 2);
        const V d = splat_half(scale);
        for (int i = 0; i < 32; i += W) store(out + i, d * load_int8((const int8_t *)x + 2 + i));
    }
}

inline void keep_row(Kept kept, const float *x, uint8_t *out, int64_t n) {
    uint16_t *halves = (uint16_t *)out;
    int64_t i = 0;
    switch (kept) {
    case Kept::f32: std::memcpy(out, x, size_t(n) * 4); break;
    case Kept::f16:
        for (; i + W <= n; i += W) store_half(halves + i, load(x + i));
        for (; i < n; i++) halves[i] = float_to_half(x[i]);
        break;
    case Kept::bf16:
        for (; i < n; i++) halves[i] = float_to_bfloat(x[i]);
        break;
    case Kept::q8_0: keep_q8_0(x, out, n); break;
    }
}

inline void recall_row(Kept kept, const uint8_t *x, float *out, int64_t n) {
    const uint16_t *halves = (const uint16_t *)x;
    int64_t i = 0;
    switch (kept) {
    case Kept::f32: std::memcpy(out, x, size_t(n) * 4); break;
    case Kept::f16:
        for (; i + W <= n; i += W) store(out + i, load_half(halves + i));
        for (; i < n; i++) out[i] = half_to_float(halves[i]);
        break;
    case Kept::bf16:
        for (; i < n; i++) out[i] = bfloat_to_float(halves[i]);
        break;
    case Kept::q8_0: recall_q8_0(x, out, n); break;
    }
}

}  // namespace
}  // namespace puna::PUNA_ISA
