// Vectors of 32-bit lanes, as wide as the instruction set that a source is compiled for, by GCC's and Clang's vector
// extensions: + - * / < & and ?: work lane by lane. `nearest` and `to_half` round as ggml does.
#pragma once

#include <cstdint>
#include <cstring>

#include "bits.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__GNUC__) && !defined(__clang__)  // GCC 12's own intrinsics start from an undefined register
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#define PUNA_INLINE inline __attribute__((always_inline))

namespace puna::PUNA_ISA {

#if defined(__AVX512F__)
constexpr int W = 16;
#elif defined(__AVX2__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif

typedef float F __attribute__((vector_size(4 * W)));
typedef int32_t I __attribute__((vector_size(4 * W)));  // also a mask: 0 or -1

PUNA_INLINE F load(const float *p) {
    F v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
PUNA_INLINE void store(float *p, F v) { std::memcpy(p, &v, sizeof v); }
PUNA_INLINE F set(float x) { return F{} + x; }
PUNA_INLINE I set_int(int32_t x) { return I{} + x; }
PUNA_INLINE F where(I mask, F a, F b) { return mask ? a : b; }
PUNA_INLINE I where(I mask, I a, I b) { return mask ? a : b; }
PUNA_INLINE F floats(I v) { return __builtin_convertvector(v, F); }
PUNA_INLINE I bits_of(F v) { return (I)v; }
PUNA_INLINE F from_bits(I v) { return (F)v; }
PUNA_INLINE F absolute(F v) { return from_bits(bits_of(v) & 0x7fffffff); }
PUNA_INLINE I smaller(I a, I b) { return a < b ? a : b; }
PUNA_INLINE I larger(I a, I b) { return a > b ? a : b; }

// b where either is NaN, and where both are zeros.
#if defined(__AVX512F__)
PUNA_INLINE F smaller(F a, F b) { return _mm512_min_ps(a, b); }
PUNA_INLINE F larger(F a, F b) { return _mm512_max_ps(a, b); }
PUNA_INLINE F root(F v) { return _mm512_sqrt_ps(v); }
PUNA_INLINE F whole(F v) { return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
PUNA_INLINE bool any(I mask) { return _mm512_movepi32_mask((__m512i)mask) != 0; }
#elif defined(__AVX2__)
PUNA_INLINE F smaller(F a, F b) { return _mm256_min_ps(a, b); }
PUNA_INLINE F larger(F a, F b) { return _mm256_max_ps(a, b); }
PUNA_INLINE F root(F v) { return _mm256_sqrt_ps(v); }
PUNA_INLINE F whole(F v) { return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
PUNA_INLINE bool any(I mask) { return _mm256_movemask_ps((__m256)mask) != 0; }
#else
PUNA_INLINE F smaller(F a, F b) { return a < b ? a : b; }
PUNA_INLINE F larger(F a, F b) { return a > b ? a : b; }
PUNA_INLINE F root(F v) {
    F out;
    for (int i = 0; i < W; i++) out[i] = __builtin_sqrtf(v[i]);
    return out;
}
PUNA_INLINE F whole(F v) { return (v + 12582912.0f) - 12582912.0f; }  // for magnitudes below 2^22
PUNA_INLINE bool any(I mask) {
    int32_t sum = 0;
    for (int i = 0; i < W; i++) sum |= mask[i];
    return sum != 0;
}
#endif

// The nearest integer, ties to even, by ggml's trick on the bits; wraps beyond 2^22.
PUNA_INLINE I nearest(F v) { return (bits_of(v + 12582912.0f) & 0x7fffff) - 0x400000; }
PUNA_INLINE int nearest(float x) {
    return int(puna::bits_of(x + 12582912.0f) & 0x7fffff) - 0x400000;
}

PUNA_INLINE uint16_t to_half(float x) {
#if defined(__F16C__)
    return uint16_t(_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT));
#else
    return float_to_half(x);
#endif
}

PUNA_INLINE float from_half(uint16_t half) {
#if defined(__F16C__)
    return _cvtsh_ss(half);
#else
    return half_to_float(half);
#endif
}

// Stores a scale as F16, little-endian, at any alignment; false where it becomes infinite.
PUNA_INLINE bool store_half(uint8_t *to, float x) {
    const uint16_t half = to_half(x);
    std::memcpy(to, &half, 2);
    return (half & 0x7fff) != 0x7c00;
}
PUNA_INLINE float load_half(const uint8_t *from) {
    uint16_t half;
    std::memcpy(&half, from, 2);
    return from_half(half);
}

// The lowest byte of each lane. GCC 12 takes lanes apart for __builtin_convertvector.
PUNA_INLINE void store_bytes(uint8_t *to, I v) {
#if defined(__AVX512F__)
    _mm_storeu_si128(reinterpret_cast<__m128i *>(to), _mm512_cvtepi32_epi8((__m512i)v));
#elif defined(__AVX2__)
    const __m256i lowest = _mm256_set1_epi32(0x0c080400);
    const __m256i bytes = _mm256_shuffle_epi8((__m256i)v, lowest);
    _mm_storel_epi64(reinterpret_cast<__m128i *>(to),
                     _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1)));
#elif defined(__SSE2__)
    const __m128i words = _mm_packs_epi32((__m128i)(v & 255), _mm_setzero_si128());
    const int bytes = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
    std::memcpy(to, &bytes, 4);
#else
    typedef uint8_t Bytes __attribute__((vector_size(W)));
    const Bytes bytes = __builtin_convertvector(v, Bytes);
    std::memcpy(to, &bytes, sizeof bytes);
#endif
}

// Interleaves the lower (upper) halves of two vectors: a0 b0 a1 b1 ...
#if defined(__AVX512F__)
PUNA_INLINE F interleave_lower(F a, F b) {
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
PUNA_INLINE F interleave_upper(F a, F b) {
    return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
#elif defined(__AVX2__)
PUNA_INLINE F interleave_lower(F a, F b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
PUNA_INLINE F interleave_upper(F a, F b) { return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
#else
PUNA_INLINE F interleave_lower(F a, F b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
PUNA_INLINE F interleave_upper(F a, F b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
#endif

// out[i * out_stride + lane] = x[lane * stride + i] for i < W: W vectors become W columns.
PUNA_INLINE void transpose(const float *x, int64_t stride, float *out, int64_t out_stride) {
    F v[W], next[W];
    for (int i = 0; i < W; i++) v[i] = load(x + i * stride);
#pragma GCC unroll 4
    for (int step = 1; step < W; step *= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < W / 2; i++) {
            next[2 * i] = interleave_lower(v[i], v[i + W / 2]);
            next[2 * i + 1] = interleave_upper(v[i], v[i + W / 2]);
        }
#pragma GCC unroll 16
        for (int i = 0; i < W; i++) v[i] = next[i];
    }
    for (int i = 0; i < W; i++) store(out + i * out_stride, v[i]);
}

// out[i * lanes + lane] = x[lane * size + i], for `lanes` groups of `size`: both multiples of W.
PUNA_INLINE void by_group(const float *x, int size, int lanes, float *out) {
    for (int lane = 0; lane < lanes; lane += W)
        for (int i = 0; i < size; i += W) transpose(x + lane * size + i, size, out + i * lanes + lane, lanes);
}

}  // namespace puna::PUNA_ISA
