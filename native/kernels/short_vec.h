// Vectors of 16-bit integers in pairs and of their 32-bit sums, W pairs and W sums each (vec.h). Sums are exact, so
// that all instruction sets agree.
#pragma once

#include <algorithm>

#include "kernels/vec.h"

namespace puna::PUNA_ISA {

#if defined(__AVX512VNNI__)

struct Pairs {
    __m512i v;
};
struct Sums {
    __m512i v;
};
inline Pairs load_pairs(const uint8_t *p) { return {_mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)p))}; }
inline Pairs splat_pair(const int16_t *p) {
    int32_t both;
    std::memcpy(&both, p, 4);
    return {_mm512_set1_epi32(both)};
}
inline Sums zero_sums() { return {_mm512_setzero_si512()}; }
inline Sums add_products(Sums sums, Pairs a, Pairs b) {
#if defined(__GNUC__) && !defined(__clang__)  // GCC 12 copies every sum that its intrinsic adds to, through the stack
    asm("vpdpwssd %2, %1, %0" : "+v"(sums.v) : "v"(a.v), "v"(b.v));
    return sums;
#else
    return {_mm512_dpwssd_epi32(sums.v, a.v, b.v)};
#endif
}
inline V to_floats(Sums a) { return {_mm512_cvtepi32_ps(a.v)}; }
inline void store_rounded(int16_t *p, V a) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(a.v)));
}

inline V top_magnitudes(V tops, V x) {  // by lanes, the larger; NaN counts as the largest of all
    const __m512i bits = _mm512_castps_si512(vabs(x).v);
    return {_mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(tops.v), bits))};
}
inline float top_magnitude(V tops) {
    return float_of(uint32_t(_mm512_reduce_max_epi32(_mm512_castps_si512(tops.v))));
}

#elif defined(__AVX2__)

struct Pairs {
    __m256i v;
};
struct Sums {
    __m256i v;
};
inline Pairs load_pairs(const uint8_t *p) { return {_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p))}; }
inline Pairs splat_pair(const int16_t *p) {
    int32_t both;
    std::memcpy(&both, p, 4);
    return {_mm256_set1_epi32(both)};
}
inline Sums zero_sums() { return {_mm256_setzero_si256()}; }
inline Sums add_products(Sums sums, Pairs a, Pairs b) {
    return {_mm256_add_epi32(sums.v, _mm256_madd_epi16(a.v, b.v))};
}
inline V to_floats(Sums a) { return {_mm256_cvtepi32_ps(a.v)}; }
inline void store_rounded(int16_t *p, V a) {
    const __m256i whole = _mm256_cvtps_epi32(a.v);
    _mm_storeu_si128((__m128i *)p, _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1)));
}

#elif defined(PUNA_NEON)

struct Pairs {
    int16x8_t v;
};
struct Sums {
    int32x4_t v;
};
inline Pairs load_pairs(const uint8_t *p) { return {vmovl_s8(vld1_s8((const int8_t *)p))}; }
inline Pairs splat_pair(const int16_t *p) {
    int32_t both;
    std::memcpy(&both, p, 4);
    return {vreinterpretq_s16_s32(vdupq_n_s32(both))};
}
inline Sums zero_sums() { return {vdupq_n_s32(0)}; }
inline Sums add_products(Sums sums, Pairs a, Pairs b) {
    const int32x4_t low = vmull_s16(vget_low_s16(a.v), vget_low_s16(b.v)), high = vmull_high_s16(a.v, b.v);
    return {vaddq_s32(sums.v, vpaddq_s32(low, high))};
}
inline V to_floats(Sums a) { return {vcvtq_f32_s32(a.v)}; }
inline void store_rounded(int16_t *p, V a) { vst1_s16(p, vqmovn_s32(vcvtnq_s32_f32(a.v))); }

#else

struct Pairs {
    int16_t v[2 * W];
};
struct Sums {
    int32_t v[W];
};
inline Pairs load_pairs(const uint8_t *p) {
    Pairs out;
    for (int i = 0; i < 2 * W; i++) out.v[i] = int8_t(p[i]);
    return out;
}
inline Pairs splat_pair(const int16_t *p) {
    Pairs out;
    for (int i = 0; i < 2 * W; i++) out.v[i] = p[i % 2];
    return out;
}
inline Sums zero_sums() { return {}; }
inline Sums add_products(Sums sums, Pairs a, Pairs b) {
    for (int i = 0; i < W; i++) sums.v[i] += a.v[2 * i] * b.v[2 * i] + a.v[2 * i + 1] * b.v[2 * i + 1];
    return sums;
}
inline V to_floats(Sums a) {
    float out[W];
    for (int i = 0; i < W; i++) out[i] = float(a.v[i]);
    return load(out);
}
inline void store_rounded(int16_t *p, V a) {
    float x[W];
    store(x, a);
    for (int i = 0; i < W; i++) p[i] = int16_t(std::lrint(x[i]));
}

#endif

#if !defined(__AVX512VNNI__)

inline V top_magnitudes(V tops, V x) {
    int32_t a[W], b[W];
    float out[W];
    std::memcpy(a, &tops, sizeof(a)), std::memcpy(b, &x, sizeof(b));
    for (int i = 0; i < W; i++) a[i] = std::max(a[i], b[i] & 0x7fffffff);
    std::memcpy(out, a, sizeof(a));
    return load(out);
}
inline float top_magnitude(V tops) {
    int32_t bits[W];
    float out;
    std::memcpy(bits, &tops, sizeof(bits));
    std::memcpy(&out, std::max_element(bits, bits + W), 4);
    return out;
}

#endif

}  // namespace puna::PUNA_ISA
