// Blocks of 32 with one scale: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 (drawn in src/puna/quants/legacy.py).

#include "quantize/codec.h"
#include "quantize/fits.h"
#include "quantize/lanes.h"

namespace puna::PUNA_ISA {
namespace {

constexpr int size = 32, groups = quantize::chunk / size;

// 1 / scale; 0 where that would be infinite, or scale is 0.
PUNA_INLINE F reciprocal(F scale) {
    const F inverse = 1.0f / scale;
    return where(absolute(inverse) > 3.402823466e38f, set(0), inverse);
}

// The bits of Q5's fifth: element j is bit j.
PUNA_INLINE uint32_t fifth_bits(const uint8_t *q) {
    uint32_t bits = 0;
    for (int i = 0; i < size; i++) bits |= uint32_t(q[i] >> 4 & 1) << i;
    return bits;
}

// Writes quants 0..15, or 0..31 with their fifth bits in front.
template <bool five> PUNA_INLINE void pack(const uint8_t *q, uint8_t *to) {
    if constexpr (five) {
        const uint32_t bits = fifth_bits(q);
        std::memcpy(to, &bits, 4);
        to += 4;
    }
    for (int i = 0; i < 16; i++) to[i] = uint8_t((q[i] & 15) | q[i + 16] << 4);
}

// The quants 0..top of (x - base) * inverse + offset, without its fraction.
PUNA_INLINE void cut(const float *x, float base, float inverse, float offset, float top, uint8_t *q) {
    for (int i = 0; i < size; i += W) {
        const F v = smaller((load(x + i) - base) * inverse + offset, set(top));
        store_bytes(q + i, __builtin_convertvector(v, I));
    }
}

struct Bounds {
    alignas(64) float low[groups], high[groups];  // of each block; -0 is below 0 only by chance
};

void find_bounds(const float *x, Bounds &bounds) {
    alignas(64) float low[W * W], high[W * W], turned[W * W];
    for (int block = 0; block < groups; block += W) {
        for (int i = 0; i < W; i++, x += size) {
            F least = load(x), most = least;
            for (int k = W; k < size; k += W) {
                least = smaller(load(x + k), least);
                most = larger(load(x + k), most);
            }
            store(low + i * W, least);
            store(high + i * W, most);
        }
        transpose(low, W, turned, W);
        F least = load(turned);
        for (int i = 1; i < W; i++) least = smaller(load(turned + i * W), least);
        store(bounds.low + block, least);
        transpose(high, W, turned, W);
        F most = load(turned);
        for (int i = 1; i < W; i++) most = larger(load(turned + i * W), most);
        store(bounds.high + block, most);
    }
}

// The first value of the largest magnitude; +0 for zeros.
PUNA_INLINE float extreme(const float *x, float low, float high) {
    if (high > -low) return high;
    if (high < -low) return low;
    if (high == 0) return 0;
    for (int i = 0;; i++)
        if (x[i] == low || x[i] == high) return x[i];
}

// `low`, with the sign of the first zero where it is zero.
PUNA_INLINE float lowest(const float *x, float low) {
    if (low != 0) return low;
    for (int i = 0;; i++)
        if (x[i] == 0) return x[i];
}

template <int top> bool symmetric(const float *x, const float *weights, int64_t blocks, uint8_t *to) {
    constexpr int bytes = top == 8 ? 18 : 22;
    alignas(64) uint8_t q[size];
    bool stored = true;
    if (weights) {
        Fits<size> fits;
        symmetric_fits<size>(x, weights, float(top), blocks, fits);
        for (int64_t block = 0; block < blocks; block++, to += bytes) {
            stored &= store_half(to, fits.scale[block]);
            fits.quants(x + block * size, int(block), -top, top - 1, q);
            pack<top == 16>(q, to + 2);
        }
        return stored;
    }
    Bounds bounds;
    alignas(64) float scales[groups], inverses[groups];
    find_bounds(x, bounds);
    for (int i = 0; i < blocks; i++) scales[i] = extreme(x + i * size, bounds.low[i], bounds.high[i]);
    for (int i = 0; i < blocks; i += W) {
        store(scales + i, load(scales + i) / float(-top));
        store(inverses + i, reciprocal(load(scales + i)));
    }
    for (int64_t block = 0; block < blocks; block++, to += bytes) {
        stored &= store_half(to, scales[block]);
        const float offset = scales[block] == 0 || inverses[block] != 0 ? top + 0.5f : 0;
        cut(x + block * size, 0, inverses[block], offset, 2 * top - 1, q);
        pack<top == 16>(q, to + 2);
    }
    return stored;
}

template <int top> bool affine(const float *x, const float *weights, int64_t blocks, uint8_t *to) {
    constexpr int bytes = top == 15 ? 20 : 24;
    alignas(64) uint8_t q[size];
    bool stored = true;
    if (weights) {
        Fits<size> fits;
        affine_fits<size, false>(x, weights, float(top), {-0.9f, 0.05f, 36}, blocks, fits);
        for (int64_t block = 0; block < blocks; block++, to += bytes) {
            stored &= store_half(to, fits.scale[block]) & store_half(to + 2, -fits.minimum[block]);
            fits.quants(x + block * size, int(block), 0, top, q);
            pack<top == 31>(q, to + 4);
        }
        return stored;
    }
    Bounds bounds;
    alignas(64) float scales[groups], inverses[groups];
    find_bounds(x, bounds);
    for (int i = 0; i < groups; i += W) {
        const F span = load(bounds.high + i) - load(bounds.low + i);
        const F scale = where(span == 0, set(0), span / float(top));
        store(scales + i, where(scale == 0, set(0), scale));
        store(inverses + i, reciprocal(scale));
    }
    for (int64_t block = 0; block < blocks; block++, to += bytes) {
        const float low = lowest(x + block * size, bounds.low[block]);
        stored &= store_half(to, scales[block]) & store_half(to + 2, low);
        cut(x + block * size, low, inverses[block], 0.5f, float(top), q);
        pack<top == 31>(q, to + 4);
    }
    return stored;
}

}  // namespace

bool encode_q4_0(const float *x, const float *w, int64_t blocks, uint8_t *to) { return symmetric<8>(x, w, blocks, to); }
bool encode_q4_1(const float *x, const float *w, int64_t blocks, uint8_t *to) { return affine<15>(x, w, blocks, to); }
bool encode_q5_0(const float *x, const float *w, int64_t blocks, uint8_t *to) {
    return symmetric<16>(x, w, blocks, to);
}
bool encode_q5_1(const float *x, const float *w, int64_t blocks, uint8_t *to) { return affine<31>(x, w, blocks, to); }

bool encode_q8_0(const float *x, const float *, int64_t blocks, uint8_t *to) {
    Bounds bounds;
    alignas(64) float scales[groups], inverses[groups];
    find_bounds(x, bounds);
    for (int i = 0; i < groups; i += W) {
        const F scale = larger(absolute(load(bounds.low + i)), absolute(load(bounds.high + i))) / 127.0f;
        store(scales + i, scale);
        store(inverses + i, reciprocal(scale));
    }
    bool stored = true;
    for (int64_t block = 0; block < blocks; block++, to += 34) {
        stored &= store_half(to, scales[block]);
        for (int i = 0; i < size; i += W) {
            const F v = load(x + block * size + i) * inverses[block];
            const I down = __builtin_convertvector(v, I);
            // ties go away from zero, as C's roundf: v - down is exact, and so is its double
            const I up = __builtin_convertvector(2.0f * (v - floats(down)), I);
            store_bytes(to + 2 + i, down + up);
        }
    }
    return stored;
}

}  // namespace puna::PUNA_ISA
