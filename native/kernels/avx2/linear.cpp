// The matrix kernels and activation quantization with AVX2: a line is two registers, done one after the other.
//
// Products of bytes are added in pairs to 16 bits (saturating), so as many lines are summed in 16 bits as cannot
// overflow: 8 of 4 bits, 4 of 5, 2 of 6; bytes are made signed again, whose pairs just fit.
#include <immintrin.h>

#include "../q8.h"

namespace puna {
namespace {

struct Avx2 {
    static constexpr int lanes = 8, tile_rows = 4, float_rows = 4, float_sums = 8;
    template <Scales> static constexpr int side = 1;
    static constexpr bool signed_bytes = true;
    using Bytes = __m256i;
    using Ints = __m256i;
    using Floats = __m256;

    static PUNA_INLINE Bytes load(const uint8_t *p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i *>(p)); }
    static PUNA_INLINE Bytes bytes(int value) { return _mm256_set1_epi8(static_cast<char>(value)); }
    static PUNA_INLINE Bytes band(Bytes a, Bytes b) { return _mm256_and_si256(a, b); }
    static PUNA_INLINE Bytes bor(Bytes a, Bytes b) { return _mm256_or_si256(a, b); }
    template <int n> static PUNA_INLINE Bytes shl(Bytes a) { return _mm256_slli_epi16(a, n); }
    template <int n> static PUNA_INLINE Bytes shr(Bytes a) { return _mm256_srli_epi16(a, n); }

    // Entries of a table of 16 bytes, for indices below 16.
    static PUNA_INLINE Bytes lookup(Bytes index, const uint8_t *table) {
        const __m128i entries = _mm_loadu_si128(reinterpret_cast<const __m128i *>(table));
        return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(entries), index);
    }

    static PUNA_INLINE Ints zero_int() { return _mm256_setzero_si256(); }
    static PUNA_INLINE Ints splat_int(const uint8_t *p) { return _mm256_set1_epi32(word_at(p)); }
    static PUNA_INLINE Ints add(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
    template <int n> static PUNA_INLINE Ints sar(Ints a) { return _mm256_srai_epi32(a, n); }
    template <int bits, int count, int side> static PUNA_INLINE void dot(Ints *sum, const Bytes *w, const uint8_t *q) {
        constexpr int most = bits <= 4 ? 8 : bits == 5 ? 4 : bits == 6 ? 2 : 1, step = most < count ? most : count;
#pragma GCC unroll 8
        for (int i = 0; i < count; i += step) {
            __m256i pairs = pair<bits>(w[i], q + 4 * i);
#pragma GCC unroll 8
            for (int j = 1; j < step; j++) pairs = _mm256_add_epi16(pairs, pair<bits>(w[i + j], q + 4 * (i + j)));
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
        }
    }

    static PUNA_INLINE void dot_pairs(Ints &sum, const uint8_t *line, const uint8_t *pair) {
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(load(line), _mm256_set1_epi32(word_at(pair))));
        __asm__("" : "+x"(sum));  // or the compiler adds up many products first, more than there are registers for
    }

    static PUNA_INLINE Floats zero() { return _mm256_setzero_ps(); }
    static PUNA_INLINE Floats splat(const uint8_t *p) { return _mm256_castsi256_ps(_mm256_set1_epi32(word_at(p))); }
    static PUNA_INLINE Floats to_float(Ints a) { return _mm256_cvtepi32_ps(a); }
    static PUNA_INLINE Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
    static PUNA_INLINE Floats addf(Floats a, Floats b) { return _mm256_add_ps(a, b); }
    static PUNA_INLINE Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
    static PUNA_INLINE Floats load_f32(const void *p) { return _mm256_loadu_ps(static_cast<const float *>(p)); }
    static PUNA_INLINE Floats load_f16(const uint8_t *p) { return _mm256_cvtph_ps(halves(p)); }
    static PUNA_INLINE Floats load_bf16(const uint8_t *p) {
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves(p)), 16));
    }
    static PUNA_INLINE Floats load_u8(const uint8_t *p) { return to_float(_mm256_cvtepu8_epi32(small(p))); }
    static PUNA_INLINE Floats load_power(const uint8_t *p) {
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu8_epi32(small(p)), 23));
    }
    static PUNA_INLINE Floats load_i8(const uint8_t *p) { return to_float(_mm256_cvtepi8_epi32(small(p))); }
    static PUNA_INLINE Floats load_low4(const uint8_t *p) {
        return to_float(_mm256_and_si256(_mm256_cvtepu8_epi32(small(p)), _mm256_set1_epi32(15)));
    }
    static PUNA_INLINE Floats load_high4(const uint8_t *p) {
        return to_float(_mm256_srli_epi32(_mm256_cvtepu8_epi32(small(p)), 4));
    }
    static PUNA_INLINE Floats load_e8m0(const uint8_t *p) {  // 2^(byte - 128); bytes 0 and 1 are denormals
        const __m256i e = _mm256_cvtepu8_epi32(small(p)), one = _mm256_set1_epi32(1);
        const __m256i denormal = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), _mm256_min_epi32(e, one));
        return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_slli_epi32(_mm256_sub_epi32(e, one), 23), denormal));
    }
    static PUNA_INLINE Floats load_e4m3(const uint8_t *p) {  // as f16, whose exponents are 8 larger, times 2^7
        return mul(_mm256_cvtph_ps(_mm_slli_epi16(_mm_cvtepu8_epi16(small(p)), 7)), _mm256_set1_ps(128));
    }
    static PUNA_INLINE void store(float *p, Floats a) { _mm256_storeu_ps(p, a); }
    static PUNA_INLINE void prefetch(const uint8_t *p, int bytes) {
        for (int i = 0; i < bytes; i += 64) _mm_prefetch(reinterpret_cast<const char *>(p + i), _MM_HINT_T0);
    }

private:
    static PUNA_INLINE int word_at(const uint8_t *p) {
        int value;
        __builtin_memcpy(&value, p, 4);
        return value;
    }
    template <int bits> static PUNA_INLINE __m256i pair(Bytes w, const uint8_t *q) {
        const __m256i x = _mm256_set1_epi32(word_at(q));
        if constexpr (bits < 8) return _mm256_maddubs_epi16(w, x);
        const __m256i value = _mm256_xor_si256(w, bytes(0x80));
        return _mm256_maddubs_epi16(_mm256_abs_epi8(value), _mm256_sign_epi8(x, value));
    }
    static PUNA_INLINE __m128i halves(const uint8_t *p) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i *>(p));
    }
    static PUNA_INLINE __m128i small(const uint8_t *p) { return _mm_loadl_epi64(reinterpret_cast<const __m128i *>(p)); }
};

PUNA_INLINE int32_t sum_of(__m256i a) {
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1)));
}

struct Quantizer {
    template <int blocks> static PUNA_INLINE uint32_t peak_bits(const float *x) {
        const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
        __m256i peaks = _mm256_setzero_si256();
        for (int i = 0; i < 4 * blocks; i++) {
            const __m256i bits = _mm256_castps_si256(_mm256_loadu_ps(x + 8 * i));
            peaks = _mm256_max_epu32(peaks, _mm256_and_si256(bits, magnitude));
        }
        __m128i top = _mm_max_epu32(_mm256_castsi256_si128(peaks), _mm256_extracti128_si256(peaks, 1));
        top = _mm_max_epu32(top, _mm_shuffle_epi32(top, 0x4e));
        top = _mm_max_epu32(top, _mm_shuffle_epi32(top, 0xb1));
        return static_cast<uint32_t>(_mm_cvtsi128_si32(top));
    }

    static PUNA_INLINE void convert(const float *x, float scale, uint8_t *q, int32_t sums[2]) {
        __m256i ints[4];
        for (int i = 0; i < 4; i++)
            ints[i] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), _mm256_set1_ps(scale)));
        const __m256i low = _mm256_packs_epi32(ints[0], ints[1]), high = _mm256_packs_epi32(ints[2], ints[3]);
        const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);  // packs works within halves
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(q),
                            _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order));
        for (int half = 0; half < 2; half++) sums[half] = sum_of(_mm256_add_epi32(ints[2 * half], ints[2 * half + 1]));
    }
};

}  // namespace

namespace avx2 { extern constexpr LinearKernels linear_kernels = linear_table<Avx2, Quantizer>(); }

}  // namespace puna
