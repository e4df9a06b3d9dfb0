// Attention's products with q8_0 pages (q8_pages.h): queries and weights become 16-bit integers, a scale for each row,
// and integers meet integers. Twice as fast as floats, which q8_0 would first have to become, and closer to them than
// q8_0 is. Text compiled once for each instruction set.
//
// A tile of sums is as many rows as fill the registers by 64 slots (scores) or 32 elements (values), where vectors are
// that wide. The largest sum is 64 * 32767 * 127: no overflow.
#pragma once

#include <algorithm>

#include "kernels/matrix_body.h"
#include "kernels/q8_pages.h"
#include "kernels/short_vec.h"

namespace puna::PUNA_ISA {
namespace {

constexpr int value_rows = W == 16 ? 12 : 4;
constexpr int value_vectors = 2;
constexpr float short_top = 32767;

struct Shorts {  // rows of 16-bit integers; row r stands for its integers times units[r]
    int16_t *rows;
    int64_t row;
    float *units;
    Shorts from(int64_t r) const { return {rows + r * row, row, units + r}; }
};

// x (n, a multiple of W) as integers; their unit. A row that is not finite becomes zeros times NaN.
inline float shorten(const float *x, int64_t n, int16_t *out) {
    V tops = set(0);
    for (int64_t i = 0; i < n; i += W) tops = top_magnitudes(tops, load(x + i));
    const float top = top_magnitude(tops);
    if (!(top >= 1e-30f && top < INFINITY)) {
        std::fill(out, out + n, int16_t(0));
        return top < 1e-30f ? 0 : NAN;
    }
    const V inverse = set(short_top / top);
    for (int64_t i = 0; i < n; i += W) store_rounded(out + i, load(x + i) * inverse);
    return top * (1 / short_top);
}

// Asks for the same place of the next page, once a line.
inline void fetch_line(const uint8_t *from, int64_t ahead, int64_t within) {
    if (within % 64 == 0) fetch(from, ahead);
}

template <int R, int C>
inline __attribute__((always_inline)) void score_block(const Shorts &q, const uint8_t *block, int64_t ahead,
                                                       int64_t slot, float *scores, int64_t scores_row, bool add) {
    Sums sums[R][C];
    for (int r = 0; r < R; r++) {
        for (int j = 0; j < C; j++) sums[r][j] = zero_sums();
    }
    const uint8_t *from = block + q8_page_scales + 2 * slot;
    for (int64_t k = 0; k < 16; k++, from += 2 * page_slots) {
        Pairs keys[C];
        for (int j = 0; j < C; j++) {
            fetch_line(from + 2 * j * W, ahead, 2 * j * W);
            keys[j] = load_pairs(from + 2 * j * W);
        }
        for (int r = 0; r < R; r++) {
            const Pairs factor = splat_pair(q.rows + r * q.row + 2 * k);
            for (int j = 0; j < C; j++) sums[r][j] = add_products(sums[r][j], factor, keys[j]);
        }
    }
    for (int j = 0; j < C; j++) {
        const V scale = load_half(reinterpret_cast<const uint16_t *>(block) + slot + j * W);
        for (int r = 0; r < R; r++) {
            float *to = scores + r * scores_row + slot + j * W;
            store(to, fma(to_floats(sums[r][j]), scale * set(q.units[r]), add ? load(to) : set(0)));
        }
    }
}

template <int R, int C>
void score_rows(const Shorts &q, int64_t rows, const uint8_t *block, int64_t ahead, int64_t slot, float *scores,
                int64_t scores_row, bool add) {
    int64_t r = 0;
    for (; r + R <= rows; r += R)
        score_block<R, C>(q.from(r), block, ahead, slot, scores + r * scores_row, scores_row, add);
    if constexpr (R > 1) {
        if (r < rows)
            score_rows<R - 1, C>(q.from(r), rows - r, block, ahead, slot, scores + r * scores_row, scores_row, add);
    }
}

// scores (rows, page_slots) of a turned page; what is read next lies `ahead` bytes further on.
inline void score_shorts(const Shorts &q, int64_t rows, const uint8_t *page, int64_t ahead, int64_t size, float *scores,
                         int64_t scores_row) {
    for (int64_t e = 0; e < size; e += 32, page += q8_page_block) {
        for (int64_t i = 0; i < q8_page_scales; i += 64) fetch(page + i, ahead);
        const Shorts part{q.rows + e, q.row, q.units};
        for (int64_t slot = 0; slot < page_slots; slot += block_vectors * W) {
            score_rows<block_rows, block_vectors>(part, rows, page, ahead, slot, scores, scores_row, e > 0);
        }
    }
}

// Weights of places [begin, end) times a block's scales as integers; zeros elsewhere, where scales may be anything.
inline float shorten_weights(const float *weights, const uint8_t *block, int64_t begin, int64_t end, int16_t *out) {
    float products[page_slots];
    const uint16_t *scales = reinterpret_cast<const uint16_t *>(block);
    for (int64_t j = 0; j < page_slots; j += W) store(products + j, load(weights + j) * load_half(scales + j));
    std::fill(products, products + begin, 0.0f);
    std::fill(products + end, products + page_slots, 0.0f);
    return shorten(products, page_slots, out);
}

template <int R, int C>
inline __attribute__((always_inline)) void add_block(const Shorts &weights, const uint8_t *block, int64_t ahead,
                                                     int64_t element, float *to, int64_t to_row) {
    Sums sums[R][C];
    for (int r = 0; r < R; r++) {
        for (int j = 0; j < C; j++) sums[r][j] = zero_sums();
    }
    const uint8_t *from = block + q8_page_scales + 2 * element;
    for (int64_t k = 0; k < page_slots / 2; k++, from += 64) {
        Pairs values[C];
        for (int j = 0; j < C; j++) {
            fetch_line(from + 2 * j * W, ahead, 2 * j * W);
            values[j] = load_pairs(from + 2 * j * W);
        }
        for (int r = 0; r < R; r++) {
            const Pairs factor = splat_pair(weights.rows + r * weights.row + 2 * k);
            for (int j = 0; j < C; j++) sums[r][j] = add_products(sums[r][j], factor, values[j]);
        }
    }
    for (int r = 0; r < R; r++) {
        for (int j = 0; j < C; j++) {
            float *at = to + r * to_row + element + j * W;
            store(at, fma(to_floats(sums[r][j]), set(weights.units[r]), load(at)));
        }
    }
}

template <int R, int C>
void add_rows(const Shorts &weights, int64_t rows, const uint8_t *block, int64_t ahead, int64_t element, float *to,
              int64_t to_row) {
    int64_t r = 0;
    for (; r + R <= rows; r += R) add_block<R, C>(weights.from(r), block, ahead, element, to + r * to_row, to_row);
    if constexpr (R > 1) {
        if (r < rows) add_rows<R - 1, C>(weights.from(r), rows - r, block, ahead, element, to + r * to_row, to_row);
    }
}

// Adds the values of one block, weighted, to 32 elements of each row of `to`.
inline void add_shorts(const Shorts &weights, int64_t rows, const uint8_t *block, int64_t ahead, float *to,
                       int64_t to_row) {
    for (int64_t i = 0; i < q8_page_scales; i += 64) fetch(block + i, ahead);
    for (int64_t element = 0; element < 32; element += value_vectors * W) {
        add_rows<value_rows, value_vectors>(weights, rows, block, ahead, element, to, to_row);
    }
}

}  // namespace
}  // namespace puna::PUNA_ISA
