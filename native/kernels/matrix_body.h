// Small float matrices in cache, for attention: products and transposition. Compiled once for each instruction set.
#pragma once

#include "kernels/vec.h"

namespace puna::PUNA_ISA {
namespace {

#if defined(__AVX512F__) || defined(PUNA_NEON)  // a block of sums fills the registers: 6 x 4 of 32, 4 x 2 of 16
constexpr int block_rows = 6, block_vectors = 4;
#else
constexpr int block_rows = 4, block_vectors = 2;
#endif

inline void fetch(const void *p) {
#if defined(__GNUC__)
    __builtin_prefetch(p, 0, 3);
#else
    (void)p;
#endif
}

// What is read next lies in other memory, where pointers may not lead: addresses do.
inline int64_t bytes_to(const void *from, const void *next) {
    return int64_t(reinterpret_cast<uintptr_t>(next) - reinterpret_cast<uintptr_t>(from));
}

inline void fetch(const void *p, int64_t ahead) {
    fetch(reinterpret_cast<const void *>(reinterpret_cast<uintptr_t>(p) + uintptr_t(ahead)));
}

// The second factor of a product, by vectors: element (k, j) and its right neighbours.
struct Floats {
    const float *from;
    int64_t row;
    const uint8_t *at(int64_t k, int64_t j) const { return reinterpret_cast<const uint8_t *>(from + k * row + j); }
    V operator()(int64_t k, int64_t j) const { return load(from + k * row + j); }
};

struct Halves {
    const uint16_t *from;
    int64_t row;
    const uint8_t *at(int64_t k, int64_t j) const { return reinterpret_cast<const uint8_t *>(from + k * row + j); }
    V operator()(int64_t k, int64_t j) const { return load_half(from + k * row + j); }
};

template <int R, int C, class B>
inline __attribute__((always_inline)) void multiply_block(const float *a, int64_t a_row, const B &b, int64_t column,
                                                          float *c, int64_t c_row, int64_t depth, bool add) {
    V sums[R][C];
    for (int r = 0; r < R; r++) {
        for (int j = 0; j < C; j++) sums[r][j] = add ? load(c + r * c_row + j * W) : set(0);
    }
    for (int64_t k = 0; k < depth; k++) {
        V row[C];
        for (int j = 0; j < C; j++) row[j] = b(k, column + j * W);
        for (int r = 0; r < R; r++) {
            const V factor = set(a[r * a_row + k]);
            for (int j = 0; j < C; j++) sums[r][j] = fma(factor, row[j], sums[r][j]);
        }
    }
    for (int r = 0; r < R; r++) {
        for (int j = 0; j < C; j++) store(c + r * c_row + j * W, sums[r][j]);
    }
}

// `rows` rows, R at a time, then the rest: each with as many sums as there are rows.
template <int R, int C, class B>
void multiply_rows(const float *a, int64_t a_row, int64_t rows, const B &b, int64_t column, float *c, int64_t c_row,
                   int64_t depth, bool add) {
    for (; rows >= R; rows -= R, a += R * a_row, c += R * c_row)
        multiply_block<R, C>(a, a_row, b, column, c, c_row, depth, add);
    if constexpr (R > 1) {
        if (rows > 0) multiply_rows<R - 1, C>(a, a_row, rows, b, column, c, c_row, depth, add);
    }
}

// c (rows, columns) = a (rows, depth) b (depth, columns), or added to it; columns is a multiple of W. Every element is
// one chain of fused multiply-adds in the order of depth, whatever else is computed beside it.
template <class B>
void multiply(const float *a, int64_t a_row, int64_t rows, const B &b, int64_t columns, float *c, int64_t c_row,
              int64_t depth, bool add) {
    int64_t j = 0;
    for (; j + block_vectors * W <= columns; j += block_vectors * W) {
        multiply_rows<block_rows, block_vectors>(a, a_row, rows, b, j, c + j, c_row, depth, add);
    }
    for (; j < columns; j += W) multiply_rows<block_rows, 1>(a, a_row, rows, b, j, c + j, c_row, depth, add);
}

#if defined(__AVX512F__)

inline void transpose(V (&r)[W]) {
    __m512 t[W];
    for (int i = 0; i < W; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i].v, r[i + 1].v);
        t[i + 1] = _mm512_unpackhi_ps(r[i].v, r[i + 1].v);
    }
    __m512 q[W];  // q[4 g + c]: its lane l holds rows 4 g ... 4 g + 3 of column 4 l + c
    for (int g = 0; g < W; g += 4) {
        for (int half = 0; half < 2; half++) {
            const __m512d low = _mm512_castps_pd(t[g + half]), high = _mm512_castps_pd(t[g + 2 + half]);
            q[g + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
            q[g + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
        }
    }
    for (int c = 0; c < 4; c++) {
        const __m512 even0 = _mm512_shuffle_f32x4(q[c], q[4 + c], 0x88),
                     even1 = _mm512_shuffle_f32x4(q[8 + c], q[12 + c], 0x88);
        const __m512 odd0 = _mm512_shuffle_f32x4(q[c], q[4 + c], 0xdd),
                     odd1 = _mm512_shuffle_f32x4(q[8 + c], q[12 + c], 0xdd);
        r[c].v = _mm512_shuffle_f32x4(even0, even1, 0x88);
        r[4 + c].v = _mm512_shuffle_f32x4(odd0, odd1, 0x88);
        r[8 + c].v = _mm512_shuffle_f32x4(even0, even1, 0xdd);
        r[12 + c].v = _mm512_shuffle_f32x4(odd0, odd1, 0xdd);
    }
}

#elif defined(__AVX2__)

inline void transpose(V (&r)[W]) {
    __m256 t[W], q[W];
    for (int i = 0; i < W; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i].v, r[i + 1].v);
        t[i + 1] = _mm256_unpackhi_ps(r[i].v, r[i + 1].v);
    }
    for (int g = 0; g < W; g += 4) {
        for (int half = 0; half < 2; half++) {
            const __m256d low = _mm256_castps_pd(t[g + half]), high = _mm256_castps_pd(t[g + 2 + half]);
            q[g + 2 * half] = _mm256_castpd_ps(_mm256_unpacklo_pd(low, high));
            q[g + 2 * half + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low, high));
        }
    }
    for (int c = 0; c < 4; c++) {
        r[c].v = _mm256_permute2f128_ps(q[c], q[4 + c], 0x20);
        r[4 + c].v = _mm256_permute2f128_ps(q[c], q[4 + c], 0x31);
    }
}

#elif defined(PUNA_NEON)

inline void transpose(V (&r)[W]) {
    const auto pairs = [](float32x4_t a) { return vreinterpretq_f64_f32(a); };
    const float64x2_t a = pairs(vtrn1q_f32(r[0].v, r[1].v)), b = pairs(vtrn2q_f32(r[0].v, r[1].v));
    const float64x2_t c = pairs(vtrn1q_f32(r[2].v, r[3].v)), d = pairs(vtrn2q_f32(r[2].v, r[3].v));
    r[0].v = vreinterpretq_f32_f64(vtrn1q_f64(a, c)), r[1].v = vreinterpretq_f32_f64(vtrn1q_f64(b, d));
    r[2].v = vreinterpretq_f32_f64(vtrn2q_f64(a, c)), r[3].v = vreinterpretq_f32_f64(vtrn2q_f64(b, d));
}

#else

inline void transpose(V (&r)[W]) {
    V t[W];
    for (int i = 0; i < W; i++) t[i] = lanes([&](int j) { return r[j].v[i]; });
    for (int i = 0; i < W; i++) r[i] = t[i];
}

#endif

// out (columns, rows) = x (rows, columns) turned; both are multiples of W.
void transpose(const float *x, int64_t x_row, int64_t rows, int64_t columns, float *out) {
    for (int64_t i = 0; i < rows; i += W) {
        for (int64_t j = 0; j < columns; j += W) {
            V square[W];
            for (int k = 0; k < W; k++) square[k] = load(x + (i + k) * x_row + j);
            transpose(square);
            for (int k = 0; k < W; k++) store(out + (j + k) * rows + i, square[k]);
        }
    }
}

}  // namespace
}  // namespace puna::PUNA_ISA
