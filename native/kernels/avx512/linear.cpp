// The matrix kernels and activation quantization with AVX-512 VNNI: a line is one register.
#include <immintrin.h>

#include "../q8.h"

namespace puna {
namespace {

struct Avx512 {
    static constexpr int lanes = 16, tile_rows = 16, float_rows = 8, float_sums = 16, band_vectors = 3;
    template <Scales scales> static constexpr int side = in_halves(scales) ? 2 : 4;
    static constexpr bool signed_bytes = false;
    using Bytes = __m512i;
    using Ints = __m512i;
    using Floats = __m512;

    static PUNA_INLINE Bytes load(const uint8_t *p) { return _mm512_loadu_si512(p); }
    static PUNA_INLINE Bytes bytes(int value) { return _mm512_set1_epi8(static_cast<char>(value)); }
    static PUNA_INLINE Bytes band(Bytes a, Bytes b) { return _mm512_and_si512(a, b); }
    static PUNA_INLINE Bytes bor(Bytes a, Bytes b) { return _mm512_or_si512(a, b); }
    template <int n> static PUNA_INLINE Bytes shl(Bytes a) { return _mm512_slli_epi16(a, n); }
    template <int n> static PUNA_INLINE Bytes shr(Bytes a) { return _mm512_srli_epi16(a, n); }

    static PUNA_INLINE void store_bytes(uint8_t *p, Bytes a) { _mm512_storeu_si512(p, a); }
    template <int by> static PUNA_INLINE Bytes moved(Bytes a) {
        if constexpr (by == 0) return a;
        else return _mm512_add_epi8(a, bytes(by));
    }

    // Entries of a table of 16 bytes, for indices below 16.
    static PUNA_INLINE Bytes lookup(Bytes index, const uint8_t *table) {
        return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(small(table)), index);
    }

    static PUNA_INLINE Ints zero_int() { return _mm512_setzero_si512(); }
    static PUNA_INLINE Ints splat_int(const uint8_t *p) { return _mm512_set1_epi32(word_at(p)); }
    static PUNA_INLINE Ints add(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
    template <int n> static PUNA_INLINE Ints sar(Ints a) { return _mm512_srai_epi32(a, n); }
    template <int bits, int count, int side> static PUNA_INLINE void dot(Ints *sum, const Bytes *w, const uint8_t *q) {
#pragma GCC unroll 8
        for (int i = 0; i < count; i++)
#pragma GCC unroll 4
            for (int j = 0; j < side; j++)
                sum[j] = _mm512_dpbusd_epi32(sum[j], w[i], _mm512_set1_epi32(word_at(q + 32 * j + 4 * i)));
    }

    static PUNA_INLINE Ints dot(Ints sum, Bytes w, Bytes x) { return _mm512_dpbusd_epi32(sum, w, x); }
    // In a register, so that each use does not load it again.
    static PUNA_INLINE Bytes splat_held(const uint8_t *p) {
        Bytes x = _mm512_set1_epi32(word_at(p));
        asm("" : "+v"(x));
        return x;
    }
    static PUNA_INLINE void dot_pairs(Ints &sum, const uint8_t *line, const uint8_t *pair) {
        sum = _mm512_dpwssd_epi32(sum, load(line), _mm512_set1_epi32(word_at(pair)));
    }

    static PUNA_INLINE Floats zero() { return _mm512_setzero_ps(); }
    static PUNA_INLINE Floats splat(const uint8_t *p) { return _mm512_castsi512_ps(splat_int(p)); }
    static PUNA_INLINE Floats to_float(Ints a) { return _mm512_cvtepi32_ps(a); }
    static PUNA_INLINE Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
    static PUNA_INLINE Floats addf(Floats a, Floats b) { return _mm512_add_ps(a, b); }
    static PUNA_INLINE Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
    static PUNA_INLINE Floats load_f32(const void *p) { return _mm512_loadu_ps(p); }
    static PUNA_INLINE Floats load_f16(const uint8_t *p) { return _mm512_cvtph_ps(halves(p)); }
    static PUNA_INLINE Floats load_bf16(const uint8_t *p) {
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves(p)), 16));
    }
    static PUNA_INLINE Floats load_u8(const uint8_t *p) { return to_float(_mm512_cvtepu8_epi32(small(p))); }
    static PUNA_INLINE Floats load_power(const uint8_t *p) {
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu8_epi32(small(p)), 23));
    }
    static PUNA_INLINE Floats load_i8(const uint8_t *p) { return to_float(_mm512_cvtepi8_epi32(small(p))); }
    static PUNA_INLINE Floats load_low4(const uint8_t *p) {
        return to_float(_mm512_and_si512(_mm512_cvtepu8_epi32(small(p)), _mm512_set1_epi32(15)));
    }
    static PUNA_INLINE Floats load_high4(const uint8_t *p) {
        return to_float(_mm512_srli_epi32(_mm512_cvtepu8_epi32(small(p)), 4));
    }
    static PUNA_INLINE Floats load_e8m0(const uint8_t *p) {  // 2^(byte - 128); bytes 0 and 1 are denormals
        const __m512i e = _mm512_cvtepu8_epi32(small(p)), one = _mm512_set1_epi32(1);
        const __m512i denormal = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), _mm512_min_epi32(e, one));
        return _mm512_castsi512_ps(_mm512_max_epi32(_mm512_slli_epi32(_mm512_sub_epi32(e, one), 23), denormal));
    }
    static PUNA_INLINE Floats load_e4m3(const uint8_t *p) {  // as f16, whose exponents are 8 larger, times 2^7
        const __m256i halves = _mm256_slli_epi16(_mm256_cvtepu8_epi16(small(p)), 7);
        return mul(_mm512_cvtph_ps(halves), _mm512_set1_ps(128));
    }
    static PUNA_INLINE void store(float *p, Floats a) { _mm512_storeu_ps(p, a); }
    static PUNA_INLINE void prefetch(const uint8_t *p, int bytes) {
        for (int i = 0; i < bytes; i += 64) _mm_prefetch(reinterpret_cast<const char *>(p + i), _MM_HINT_T0);
    }
    static PUNA_INLINE void prefetch_write(const float *p) { asm volatile("prefetchw %0" : : "m"(*p)); }

private:
    static PUNA_INLINE int word_at(const uint8_t *p) {
        int value;
        __builtin_memcpy(&value, p, 4);
        return value;
    }
    static PUNA_INLINE __m256i halves(const uint8_t *p) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i *>(p));
    }
    static PUNA_INLINE __m128i small(const uint8_t *p) { return _mm_loadu_si128(reinterpret_cast<const __m128i *>(p)); }
};

struct Quantizer {
    template <int blocks> static PUNA_INLINE uint32_t peak_bits(const float *x) {
        __m512i top = _mm512_setzero_si512();
#pragma GCC unroll 16
        for (int i = 0; i < 2 * blocks; i++)
            top = _mm512_max_epu32(top, _mm512_castps_si512(_mm512_abs_ps(_mm512_loadu_ps(x + 16 * i))));
        return _mm512_reduce_max_epu32(top);
    }

    static PUNA_INLINE void convert(const float *x, float scale, uint8_t *q, int32_t sums[2]) {
        const __m512 by = _mm512_set1_ps(scale);
        const __m512i low = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), by));
        const __m512i high = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + 16), by));
        const __m128i a = _mm512_cvtsepi32_epi8(low), b = _mm512_cvtsepi32_epi8(high);
        const __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(q), both);
        __m256i sum = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), both);
        sum = _mm256_add_epi32(sum, _mm256_shuffle_epi32(sum, 0x4e));
        sum = _mm256_add_epi32(sum, _mm256_shuffle_epi32(sum, 0xb1));
        sums[0] = _mm256_cvtsi256_si32(sum);
        sums[1] = _mm_cvtsi128_si32(_mm256_extracti128_si256(sum, 1));
    }
};

}  // namespace

namespace avx512 { extern constexpr LinearKernels linear_kernels = linear_table<Avx512, Quantizer>(); }

}  // namespace puna
