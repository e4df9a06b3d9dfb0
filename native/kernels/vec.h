// Vectors of floats, as wide as the instruction set that a source is compiled for: one text of a kernel, three objects.
//
// PUNA_ISA names the namespace (generic, avx2, avx512, neon), so that no object's inline function stands in for
// another's. NaN: vmax(a, b) and vmin(a, b) give b where either is NaN.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "bits.h"

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_DOTPROD)  // what sets `neon` apart from `generic`: every 64-bit ARM has the rest
#include <arm_neon.h>
#define PUNA_NEON 1
#endif
#if defined(__GNUC__) && !defined(__clang__)  // GCC 12's own intrinsics start from an undefined register
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

namespace puna::PUNA_ISA {

#if defined(__AVX512F__)

struct V {
    __m512 v;
};
constexpr int W = 16;

inline __mmask16 first(int n) { return __mmask16((1u << n) - 1); }
inline V set(float x) { return {_mm512_set1_ps(x)}; }
inline V load(const float *p) { return {_mm512_loadu_ps(p)}; }
inline V load_n(const float *p, int n) { return {_mm512_maskz_loadu_ps(first(n), p)}; }
inline void store(float *p, V a) { _mm512_storeu_ps(p, a.v); }
inline void store_n(float *p, V a, int n) { _mm512_mask_storeu_ps(p, first(n), a.v); }
inline V operator+(V a, V b) { return {_mm512_add_ps(a.v, b.v)}; }
inline V operator-(V a, V b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline V operator*(V a, V b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline V operator/(V a, V b) { return {_mm512_div_ps(a.v, b.v)}; }
inline V fma(V a, V b, V c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline V vmax(V a, V b) { return {_mm512_max_ps(a.v, b.v)}; }
inline V vmin(V a, V b) { return {_mm512_min_ps(a.v, b.v)}; }
inline V vabs(V a) { return {_mm512_abs_ps(a.v)}; }
inline V where_negative(V x, V a, V b) {  // a where x < 0, else b
    return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(x.v, _mm512_setzero_ps(), _CMP_LT_OQ), b.v, a.v)};
}
inline float sum(V a) { return _mm512_reduce_add_ps(a.v); }
inline float largest(V a) { return _mm512_reduce_max_ps(a.v); }
inline V swap_pairs(V a) { return {_mm512_permute_ps(a.v, 0xb1)}; }
inline V round_even(V a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline V scale_by_power(V a, V n) { return {_mm512_scalef_ps(a.v, n.v)}; }
inline V load_half(const uint16_t *p) { return {_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p))}; }
inline V splat_half(uint16_t h) { return {_mm512_cvtph_ps(_mm256_set1_epi16(short(h)))}; }
inline void store_half(uint16_t *p, V a) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline V load_int8(const int8_t *p) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)))};
}

#elif defined(__AVX2__)

struct V {
    __m256 v;
};
constexpr int W = 8;

inline __m256i first(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline V set(float x) { return {_mm256_set1_ps(x)}; }
inline V load(const float *p) { return {_mm256_loadu_ps(p)}; }
inline V load_n(const float *p, int n) { return {_mm256_maskload_ps(p, first(n))}; }
inline void store(float *p, V a) { _mm256_storeu_ps(p, a.v); }
inline void store_n(float *p, V a, int n) { _mm256_maskstore_ps(p, first(n), a.v); }
inline V operator+(V a, V b) { return {_mm256_add_ps(a.v, b.v)}; }
inline V operator-(V a, V b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline V operator*(V a, V b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline V operator/(V a, V b) { return {_mm256_div_ps(a.v, b.v)}; }
inline V fma(V a, V b, V c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
inline V vmax(V a, V b) { return {_mm256_max_ps(a.v, b.v)}; }
inline V vmin(V a, V b) { return {_mm256_min_ps(a.v, b.v)}; }
inline V vabs(V a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)}; }
inline V where_negative(V x, V a, V b) {
    return {_mm256_blendv_ps(b.v, a.v, _mm256_cmp_ps(x.v, _mm256_setzero_ps(), _CMP_LT_OQ))};
}
inline float sum(V a) {
    __m128 h = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
    h = _mm_add_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_add_ss(h, _mm_movehdup_ps(h)));
}
inline float largest(V a) {
    __m128 h = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
    h = _mm_max_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_max_ss(h, _mm_movehdup_ps(h)));
}
inline V swap_pairs(V a) { return {_mm256_permute_ps(a.v, 0xb1)}; }
inline V round_even(V a) { return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline V scale_by_power(V a, V n) {  // in two factors: one alone cannot reach 2^128 or the subnormals
    const __m256i whole = _mm256_cvtps_epi32(n.v), half = _mm256_srai_epi32(whole, 1);
    const __m256i bias = _mm256_set1_epi32(127);
    const __m256i low = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    const __m256i high = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(whole, half), bias), 23);
    return {_mm256_mul_ps(_mm256_mul_ps(a.v, _mm256_castsi256_ps(low)), _mm256_castsi256_ps(high))};
}
inline V load_half(const uint16_t *p) { return {_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p))}; }
inline V splat_half(uint16_t h) { return {_mm256_cvtph_ps(_mm_set1_epi16(short(h)))}; }
inline void store_half(uint16_t *p, V a) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline V load_int8(const int8_t *p) {
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)))};
}

#elif defined(PUNA_NEON)

struct V {
    float32x4_t v;
};
constexpr int W = 4;

inline V set(float x) { return {vdupq_n_f32(x)}; }
inline V load(const float *p) { return {vld1q_f32(p)}; }
inline V load_n(const float *p, int n) {
    float part[W] = {};
    for (int i = 0; i < n; i++) part[i] = p[i];
    return load(part);
}
inline void store(float *p, V a) { vst1q_f32(p, a.v); }
inline void store_n(float *p, V a, int n) {
    float part[W];
    store(part, a);
    for (int i = 0; i < n; i++) p[i] = part[i];
}
inline V operator+(V a, V b) { return {vaddq_f32(a.v, b.v)}; }
inline V operator-(V a, V b) { return {vsubq_f32(a.v, b.v)}; }
inline V operator*(V a, V b) { return {vmulq_f32(a.v, b.v)}; }
inline V operator/(V a, V b) { return {vdivq_f32(a.v, b.v)}; }
inline V fma(V a, V b, V c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
inline V vmax(V a, V b) { return {vbslq_f32(vcgtq_f32(a.v, b.v), a.v, b.v)}; }
inline V vmin(V a, V b) { return {vbslq_f32(vcltq_f32(a.v, b.v), a.v, b.v)}; }
inline V vabs(V a) { return {vabsq_f32(a.v)}; }
inline V where_negative(V x, V a, V b) { return {vbslq_f32(vcltzq_f32(x.v), a.v, b.v)}; }
inline float sum(V a) { return vaddvq_f32(a.v); }
inline float largest(V a) { return vmaxnmvq_f32(a.v); }
inline V swap_pairs(V a) { return {vrev64q_f32(a.v)}; }
inline V round_even(V a) { return {vrndnq_f32(a.v)}; }
inline V scale_by_power(V a, V n) {  // in two factors: one alone cannot reach 2^128 or the subnormals
    const int32x4_t whole = vcvtnq_s32_f32(n.v), half = vshrq_n_s32(whole, 1), bias = vdupq_n_s32(127);
    const int32x4_t low = vshlq_n_s32(vaddq_s32(half, bias), 23);
    const int32x4_t high = vshlq_n_s32(vaddq_s32(vsubq_s32(whole, half), bias), 23);
    return {vmulq_f32(vmulq_f32(a.v, vreinterpretq_f32_s32(low)), vreinterpretq_f32_s32(high))};
}
inline V load_half(const uint16_t *p) { return {vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)))}; }
inline V splat_half(uint16_t h) { return {vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(h)))}; }
inline void store_half(uint16_t *p, V a) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(a.v))); }
inline V load_int8(const int8_t *p) {
    uint32_t four;
    std::memcpy(&four, p, 4);
    return {vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(four)))))};
}

#else

constexpr int W = 4;
struct V {
    float v[W];
};

template <class F> inline V lanes(F &&f) {
    V out;
    for (int i = 0; i < W; i++) out.v[i] = f(i);
    return out;
}
inline V set(float x) {
    return lanes([&](int) { return x; });
}
inline V load(const float *p) {
    return lanes([&](int i) { return p[i]; });
}
inline V load_n(const float *p, int n) {
    return lanes([&](int i) { return i < n ? p[i] : 0.0f; });
}
inline void store(float *p, V a) {
    for (int i = 0; i < W; i++) p[i] = a.v[i];
}
inline void store_n(float *p, V a, int n) {
    for (int i = 0; i < n; i++) p[i] = a.v[i];
}
inline V operator+(V a, V b) {
    return lanes([&](int i) { return a.v[i] + b.v[i]; });
}
inline V operator-(V a, V b) {
    return lanes([&](int i) { return a.v[i] - b.v[i]; });
}
inline V operator*(V a, V b) {
    return lanes([&](int i) { return a.v[i] * b.v[i]; });
}
inline V operator/(V a, V b) {
    return lanes([&](int i) { return a.v[i] / b.v[i]; });
}
inline V fma(V a, V b, V c) { return a * b + c; }
inline V vmax(V a, V b) {
    return lanes([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
inline V vmin(V a, V b) {
    return lanes([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
inline V vabs(V a) {
    return lanes([&](int i) { return std::fabs(a.v[i]); });
}
inline V where_negative(V x, V a, V b) {
    return lanes([&](int i) { return x.v[i] < 0 ? a.v[i] : b.v[i]; });
}
inline float sum(V a) { return (a.v[0] + a.v[1]) + (a.v[2] + a.v[3]); }
inline float largest(V a) {
    float out = a.v[0];
    for (int i = 1; i < W; i++) out = out > a.v[i] ? out : a.v[i];
    return out;
}
inline V swap_pairs(V a) {
    return lanes([&](int i) { return a.v[i ^ 1]; });
}
inline V load_half(const uint16_t *p) {
    return lanes([&](int i) { return half_to_float(p[i]); });
}
inline V splat_half(uint16_t h) { return set(half_to_float(h)); }
inline void store_half(uint16_t *p, V a) {
    for (int i = 0; i < W; i++) p[i] = float_to_half(a.v[i]);
}
inline V load_int8(const int8_t *p) {
    return lanes([&](int i) { return float(p[i]); });
}

#endif

#if defined(__AVX2__) || defined(PUNA_NEON)

// e^x to 2 ulp: 2^n times a polynomial in the rest, |rest| <= ln 2 / 2.
inline V exp(V x) {
    x = vmax(set(-106.0f), vmin(set(89.0f), x));
    const V n = round_even(x * set(1.44269504f));
    V r = fma(n, set(-0.693359375f), x);
    r = fma(n, set(2.12194440e-4f), r);
    V p = fma(set(1.9875691500e-4f), r, set(1.3981999507e-3f));
    p = fma(p, r, set(8.3334519073e-3f));
    p = fma(p, r, set(4.1665795894e-2f));
    p = fma(p, r, set(1.6666665459e-1f));
    p = fma(p, r, set(5.0000001201e-1f));
    return scale_by_power(fma(p, r * r, r + set(1.0f)), n);
}

// 2^x for x in [0, 1], to 1 ulp.
inline V power_of_two(V x) {
    V p = fma(set(1.867126324e-3f), x, set(9.017038159e-3f));
    p = fma(p, x, set(5.579990894e-2f));
    p = fma(p, x, set(2.401644588e-1f));
    p = fma(p, x, set(6.931512952e-1f));
    return fma(p, x, set(1.0f));
}

// e^x for x <= 0, whose relative error grows with -x: of weights beside one that is 1.
inline V fade(V x) {
    const V power = x * set(1.44269504f);
#if defined(__AVX512F__)
    const __m512 rest = _mm512_reduce_ps(power.v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    return {_mm512_scalef_ps(power_of_two({rest}).v, power.v)};
#else
    const V within = vmax(set(-150.0f), power), whole = round_even(within - set(0.5f));
    return scale_by_power(power_of_two(within - whole), whole);
#endif
}

#else

inline V exp(V x) {
    return lanes([&](int i) { return std::exp(x.v[i]); });
}
inline V fade(V x) { return exp(x); }

#endif

inline V tanh(V x) { return set(1.0f) - set(2.0f) / (exp(x + x) + set(1.0f)); }  // absolute error 1e-7

// f(i, n) for i = 0, W, 2W ...: n = W, at the end what is left.
template <class F> inline void each(int64_t n, F &&f) {
    int64_t i = 0;
    for (; i + W <= n; i += W) f(i, W);
    if (i < n) f(i, int(n - i));
}
inline V load_some(const float *p, int n) { return n == W ? load(p) : load_n(p, n); }
inline void store_some(float *p, V a, int n) { n == W ? store(p, a) : store_n(p, a, n); }

}  // namespace puna::PUNA_ISA
