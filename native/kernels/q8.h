// Activations to q8 and q8_wide: their scale, the records, and the rare columns beside NaN or infinity.
#pragma once

#include <cstring>

#include "tile.h"

namespace puna {
namespace {

// Below this the block counts as zero, so that 127 / max stays finite.
constexpr float tiny = 1e-30f;

// Rows whose scales and words are computed together, a vector of each, where there are so many.
constexpr int together = 4;

// Of `count` rows: their scales, and the sums of the integers of the first and second 16 columns.
template <int count> struct Sums {
    float d[count];
    int32_t low[count], high[count];
};

// `words` is the first of the first row's, in a tile of `width` rows.
template <int count> PUNA_INLINE void write_words(uint8_t *words, int width, const Sums<count> &sums) {
    const auto write = [&](Word word, auto value_of) {
        decltype(value_of(0)) values[count];
        for (int r = 0; r < count; r++) values[r] = value_of(r);
        std::memcpy(words + 4 * width * word, values, sizeof values);
    };
    write(word_d, [&](int r) { return sums.d[r]; });
    write(word_sum, [&](int r) { return static_cast<float>(sums.low[r] + sums.high[r]); });
    write(word_n8, [&](int r) { return -8 * (sums.low[r] + sums.high[r]); });
    write(word_n128, [&](int r) { return -128 * (sums.low[r] + sums.high[r]); });
    write(word_n32, [&](int r) { return -32 * sums.low[r]; });
    write(word_n32b, [&](int r) { return -32 * sums.high[r]; });
    write(word_sum16, [&](int r) { return static_cast<float>(sums.low[r]); });
    write(word_sum16b, [&](int r) { return static_cast<float>(sums.high[r]); });
}

// Columns of one row with NaN or infinity, which is d: infinities stand for themselves and drown the finite values
// beside them. `q` is its first byte in the first block's record.
inline void quantize_special(const float *x, int blocks, float d, uint8_t *q, uint8_t *words, int width) {
    for (int b = 0; b < blocks; b++, x += 32, q += width * record_bytes, words += width * record_bytes) {
        Sums<1> sums{{d}, {0}, {0}};
        for (int i = 0; i < 32; i++) {
            const int value = x[i] > 3.4028235e38f ? 1 : x[i] < -3.4028235e38f ? -1 : 0;
            q[i] = static_cast<uint8_t>(value);
            (i < 16 ? sums.low : sums.high)[0] += value;
        }
        write_words(words, width, sums);
    }
}

// Columns that share a scale, 32 for each record, of `count` rows. Q is the quantizer of an instruction set:
// `peak_bits`, the largest magnitude's bits (as integers, so that NaN sorts above infinity), and `convert`, scale x to
// the nearest integers, ties to even, which also returns the sums of the halves.
template <class Q, int blocks, int count>
PUNA_INLINE void quantize_span(const float *x, int64_t stride, uint8_t *q, uint8_t *words, int width) {
    uint32_t bits[count];
    float scale[count];
    Sums<count> sums;
    bool special = false;
    for (int r = 0; r < count; r++) special |= (bits[r] = Q::template peak_bits<blocks>(x + r * stride)) >= 0x7f800000u;
    if constexpr (count > 1) {
        if (special) {
            for (int r = 0; r < count; r++)
                quantize_span<Q, blocks, 1>(x + r * stride, 0, q + 32 * r, words + 4 * r, width);
            return;
        }
    } else if (special) {
        return quantize_special(x, blocks, float_of(bits[0]), q, words, width);
    }
    for (int r = 0; r < count; r++) {
        const float peak = float_of(bits[r]);
        scale[r] = peak < tiny ? 0.0f : 127.0f / peak;
        sums.d[r] = peak < tiny ? 0.0f : peak / 127.0f;
    }
    for (int b = 0; b < blocks; b++, x += 32, q += width * record_bytes, words += width * record_bytes) {
        for (int r = 0; r < count; r++) {
            int32_t halves[2];
            Q::convert(x + r * stride, scale[r], q + 32 * r, halves);
            sums.low[r] = halves[0], sums.high[r] = halves[1];
        }
        write_words(words, width, sums);
    }
}

// The same for columns that may end within the span, before `columns`.
template <class Q, int blocks, int count>
PUNA_INLINE void quantize_columns(const float *x, int64_t stride, int64_t columns, uint8_t *q, uint8_t *words,
                                  int width) {
    constexpr int64_t all = 32 * blocks;
    if (columns >= all) return quantize_span<Q, blocks, count>(x, stride, q, words, width);
    float part[count * all] = {};
    for (int r = 0; columns > 0 && r < count; r++)
        std::memcpy(part + r * all, x + r * stride, static_cast<size_t>(columns) * 4);
    quantize_span<Q, blocks, count>(part, all, q, words, width);
}

// Rows of x to places first.. of a tile, those columns of every row before the next, as they lie there.
template <class Q, ActKind kind>
void quantize_tile(const float *x, int64_t stride, int64_t rows, int64_t k, uint8_t *tile, int width, int first) {
    constexpr int columns = span_columns(kind), blocks = columns / 32;
    for (int64_t c = 0, end = 32 * act_blocks(k); c < end; c += columns, tile += blocks * width * record_bytes) {
        uint8_t *q = tile + 32 * first, *words = tile + 32 * width + 4 * first;
        int64_t j = 0;
        const auto quantize = [&]<int count>() {
            quantize_columns<Q, blocks, count>(x + j * stride + c, stride, k - c, q + 32 * j, words + 4 * j, width);
            j += count;
        };
        while (j + together <= rows) quantize.template operator()<together>();
        while (j < rows) quantize.template operator()<1>();
    }
}

// The table of an instruction set's matrix kernels, whose vector is V and quantizer Q.
template <class V, class Q> constexpr LinearKernels linear_table() {
    LinearKernels kernels = table<V>();
    kernels.quantize = quantize_tile<Q, ActKind::q8>;
    kernels.quantize_wide = quantize_tile<Q, ActKind::q8_wide>;
    return kernels;
}

}  // namespace
}  // namespace puna
