// The matrix kernels and activation quantization in plain C++: a vector is an array of 16, left to the compiler.
#if defined(__SSE2__)
#include <tmmintrin.h>
#endif

#include "../../blocks.h"
#include "../q8.h"

namespace puna {
namespace {

// Entries of a table of 16 bytes for 64 indices.
void pick_singly(const uint8_t *index, const uint8_t *table, uint8_t *to) {
    for (int i = 0; i < 64; i++) to[i] = table[index[i]];
}

#if defined(__SSE2__)
__attribute__((target("ssse3"))) void pick_16(const uint8_t *index, const uint8_t *table, uint8_t *to) {
    const __m128i entries = _mm_loadu_si128(reinterpret_cast<const __m128i *>(table));
    for (int i = 0; i < 64; i += 16)
        _mm_storeu_si128(reinterpret_cast<__m128i *>(to + i),
                         _mm_shuffle_epi8(entries, _mm_loadu_si128(reinterpret_cast<const __m128i *>(index + i))));
}

// SSSE3 came in 2006; without it a lookup takes ten times as long.
void (*const pick)(const uint8_t *, const uint8_t *, uint8_t *) = [] {
    __builtin_cpu_init();
    return __builtin_cpu_supports("ssse3") ? pick_16 : pick_singly;
}();
#else
constexpr auto pick = pick_singly;
#endif

struct Plain {
    static constexpr int lanes = 16, tile_rows = 1, float_rows = 1, float_sums = 1;
    template <Scales> static constexpr int side = 1;
    static constexpr bool signed_bytes = false;
    struct Bytes {
        uint8_t at[64];
    };
    struct Ints {
        int32_t at[16];
    };
    struct Floats {
        float at[16];
    };

    template <class R, int n = 16, class F> static PUNA_INLINE R each(F &&f) {
        R result;
        for (int i = 0; i < n; i++) result.at[i] = f(i);
        return result;
    }
    template <class F> static PUNA_INLINE Bytes each_byte(F &&f) {
        return each<Bytes, 64>([&](int i) { return static_cast<uint8_t>(f(i)); });
    }

    static PUNA_INLINE Bytes load(const uint8_t *p) {
        Bytes result;
        std::memcpy(result.at, p, 64);
        return result;
    }
    static PUNA_INLINE Bytes bytes(int value) {
        return each_byte([&](int) { return value; });
    }
    static PUNA_INLINE Bytes band(const Bytes &a, const Bytes &b) {
        return each_byte([&](int i) { return a.at[i] & b.at[i]; });
    }
    static PUNA_INLINE Bytes bor(const Bytes &a, const Bytes &b) {
        return each_byte([&](int i) { return a.at[i] | b.at[i]; });
    }
    template <int n> static PUNA_INLINE Bytes shl(const Bytes &a) {
        return each_byte([&](int i) { return a.at[i] << n; });
    }
    template <int n> static PUNA_INLINE Bytes shr(const Bytes &a) {
        return each_byte([&](int i) { return a.at[i] >> n; });
    }

    static PUNA_INLINE Bytes lookup(const Bytes &index, const uint8_t *table) {
        Bytes result;
        pick(index.at, table, result.at);
        return result;
    }

    static PUNA_INLINE Ints zero_int() { return Ints{}; }
    static PUNA_INLINE Ints splat_int(const uint8_t *p) {
        const auto value = static_cast<int32_t>(word_at(p));
        return each<Ints>([&](int) { return value; });
    }
    static PUNA_INLINE Ints add(const Ints &a, const Ints &b) {
        return each<Ints>([&](int i) { return a.at[i] + b.at[i]; });
    }
    template <int n> static PUNA_INLINE Ints sar(const Ints &a) {
        return each<Ints>([&](int i) { return a.at[i] >> n; });
    }
    template <int bits, int count, int side> static PUNA_INLINE void dot(Ints *sum, const Bytes *w, const uint8_t *q) {
        for (int i = 0; i < count; i++) {
            int8_t x[4];
            std::memcpy(x, q + 4 * i, 4);
            add_line(sum->at, w[i].at, x);
        }
    }

    // Two columns of 16 rows.
    static PUNA_INLINE void dot_pairs(Ints &sum, const uint8_t *line, const uint8_t *pair) {
#if defined(__SSE2__)
        const __m128i x = _mm_set1_epi32(static_cast<int32_t>(word_at(pair)));
        for (int v = 0; v < 4; v++) {
            auto *place = reinterpret_cast<__m128i *>(sum.at + 4 * v);
            const __m128i w = _mm_loadu_si128(reinterpret_cast<const __m128i *>(line + 16 * v));
            _mm_storeu_si128(place, _mm_add_epi32(_mm_loadu_si128(place), _mm_madd_epi16(w, x)));
        }
#else
        int16_t w[32], x[2];
        std::memcpy(w, line, 64);
        std::memcpy(x, pair, 4);
        for (int r = 0; r < 16; r++) sum.at[r] += w[2 * r] * x[0] + w[2 * r + 1] * x[1];
#endif
    }

    static PUNA_INLINE Floats zero() { return Floats{}; }
    static PUNA_INLINE Floats splat(const uint8_t *p) {
        float value;
        std::memcpy(&value, p, 4);
        return each<Floats>([&](int) { return value; });
    }
    static PUNA_INLINE Floats to_float(const Ints &a) {
        return each<Floats>([&](int i) { return static_cast<float>(a.at[i]); });
    }
    static PUNA_INLINE Floats mul(const Floats &a, const Floats &b) {
        return each<Floats>([&](int i) { return a.at[i] * b.at[i]; });
    }
    static PUNA_INLINE Floats addf(const Floats &a, const Floats &b) {
        return each<Floats>([&](int i) { return a.at[i] + b.at[i]; });
    }
    static PUNA_INLINE Floats fma(const Floats &a, const Floats &b, const Floats &c) {
        return each<Floats>([&](int i) { return a.at[i] * b.at[i] + c.at[i]; });
    }
    static PUNA_INLINE Floats load_f32(const void *p) {  // one by one, or compilers keep the vector in memory
        return each<Floats>([&](int i) {
            float value;
            std::memcpy(&value, static_cast<const uint8_t *>(p) + 4 * i, 4);
            return value;
        });
    }
    static PUNA_INLINE Floats load_f16(const uint8_t *p) {
        return each<Floats>([&](int i) { return half_to_float(p + 2 * i); });
    }
    static PUNA_INLINE Floats load_bf16(const uint8_t *p) {
        uint32_t words[16];
        for (int i = 0; i < 16; i++) words[i] = static_cast<uint32_t>(p[2 * i] | p[2 * i + 1] << 8) << 16;
        return load_f32(words);
    }
    static PUNA_INLINE Floats load_u8(const uint8_t *p) {
        return each<Floats>([&](int i) { return static_cast<float>(p[i]); });
    }
    static PUNA_INLINE Floats load_power(const uint8_t *p) {
        uint32_t words[16];
        for (int i = 0; i < 16; i++) words[i] = static_cast<uint32_t>(p[i]) << 23;
        return load_f32(words);
    }
    static PUNA_INLINE Floats load_i8(const uint8_t *p) {
        return each<Floats>([&](int i) { return static_cast<float>(static_cast<int8_t>(p[i])); });
    }
    static PUNA_INLINE Floats load_low4(const uint8_t *p) {
        return each<Floats>([&](int i) { return static_cast<float>(p[i] & 15); });
    }
    static PUNA_INLINE Floats load_high4(const uint8_t *p) {
        return each<Floats>([&](int i) { return static_cast<float>(p[i] >> 4); });
    }
    static PUNA_INLINE Floats load_e8m0(const uint8_t *p) {
        return each<Floats>([&](int i) { return half_e8m0(p[i]); });
    }
    static PUNA_INLINE Floats load_e4m3(const uint8_t *p) {
        return each<Floats>([&](int i) { return half_e4m3(p[i]); });
    }
    static PUNA_INLINE void store(float *p, const Floats &a) { std::memcpy(p, a.at, 64); }
    static PUNA_INLINE void prefetch(const uint8_t *, int) {}

private:
    // Four columns of 16 rows. Compilers find no good vector code for it, and every x86-64 has SSE2.
    static PUNA_INLINE void add_line(int32_t sum[16], const uint8_t w[64], const int8_t x[4]) {
#if defined(__SSE2__)
        const __m128i even = _mm_set1_epi32((x[0] & 0xffff) | x[2] * 65536);
        const __m128i odd = _mm_set1_epi32((x[1] & 0xffff) | x[3] * 65536);
        for (int v = 0; v < 4; v++) {
            auto *place = reinterpret_cast<__m128i *>(sum + 4 * v);
            const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i *>(w + 16 * v));
            const __m128i products = _mm_add_epi32(_mm_madd_epi16(_mm_and_si128(b, _mm_set1_epi32(0x00ff00ff)), even),
                                                   _mm_madd_epi16(_mm_srli_epi16(b, 8), odd));
            _mm_storeu_si128(place, _mm_add_epi32(_mm_loadu_si128(place), products));
        }
#else
        for (int r = 0; r < 16; r++) {
            const uint8_t *b = w + 4 * r;
            sum[r] += b[0] * x[0] + b[1] * x[1] + b[2] * x[2] + b[3] * x[3];
        }
#endif
    }
};

// To the nearest integer, ties to even: adding 1.5 x 2^23 leaves no room for a fraction.
int32_t nearest(float x) {
    const volatile float shifted = x + 12582912.0f;  // volatile: not to be fused with the multiplication before it
    return static_cast<int32_t>(shifted - 12582912.0f);
}

struct Quantizer {
    template <int blocks> static uint32_t peak_bits(const float *x) {
        uint32_t top = 0;
        for (int i = 0; i < 32 * blocks; i++) {
            const uint32_t bits = bits_of(x[i]) & 0x7fffffffu;
            top = bits > top ? bits : top;
        }
        return top;
    }

    static void convert(const float *x, float scale, uint8_t *q, int32_t sums[2]) {
        sums[0] = sums[1] = 0;
        for (int i = 0; i < 32; i++) {
            const volatile float scaled = x[i] * scale;
            const int32_t value = nearest(scaled);
            q[i] = static_cast<uint8_t>(value);
            sums[i / 16] += value;
        }
    }
};

}  // namespace

namespace generic { extern constexpr LinearKernels linear_kernels = linear_table<Plain, Quantizer>(); }

}  // namespace puna
