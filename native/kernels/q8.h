// Activations to q8 and q8_wide: their scale, the records, and the rare columns beside NaN or infinity.
#pragma once

#include <cstring>

#include "tile.h"

namespace puna {
namespace {

// Below this the block counts as zero, so that 127 / max stays finite.
constexpr float tiny = 1e-30f;

// `q` is the row's first byte in the block's record, `words` its first word, `width` the tile's.
inline void write_words(uint8_t *words, int width, float d, int32_t low, int32_t high) {
    const int32_t sum = low + high;
    const float floats[] = {d, static_cast<float>(sum), static_cast<float>(low), static_cast<float>(high)};
    const int32_t ints[] = {-8 * sum, -128 * sum, -32 * low, -32 * high};
    const int step = 4 * width;
    std::memcpy(words + step * word_d, floats, 4);
    std::memcpy(words + step * word_sum, floats + 1, 4);
    std::memcpy(words + step * word_n8, ints, 4);
    std::memcpy(words + step * word_n128, ints + 1, 4);
    std::memcpy(words + step * word_n32, ints + 2, 4);
    std::memcpy(words + step * word_n32b, ints + 3, 4);
    std::memcpy(words + step * word_sum16, floats + 2, 4);
    std::memcpy(words + step * word_sum16b, floats + 3, 4);
}

// 32 columns of a span with NaN or infinity, which is d: infinities stand for themselves and drown the finite values
// beside them.
inline void write_special(const float *x, float d, uint8_t *q, uint8_t *words, int width) {
    int32_t sums[2] = {0, 0};
    for (int i = 0; i < 32; i++) {
        const int value = x[i] > 3.4028235e38f ? 1 : x[i] < -3.4028235e38f ? -1 : 0;
        q[i] = static_cast<uint8_t>(value);
        sums[i / 16] += value;
    }
    write_words(words, width, d, sums[0], sums[1]);
}

// Columns that share a scale, 32 for each record. Q is the quantizer of an instruction set: `peak_bits`, the largest
// magnitude's bits (as integers, so that NaN sorts above infinity), and `convert`, scale x to the nearest integers, ties
// to even, which also returns the sums of the halves.
template <class Q, int blocks> PUNA_INLINE void quantize_span(const float *x, uint8_t *q, uint8_t *words, int width) {
    const uint32_t bits = Q::template peak_bits<blocks>(x);
    const float peak = float_of(bits);  // infinity, or NaN, makes every output NaN
    const bool zero = peak < tiny, special = bits >= 0x7f800000u;
    const float scale = zero ? 0.0f : 127.0f / peak, d = zero ? 0.0f : special ? peak : peak / 127.0f;
    for (int b = 0; b < blocks; b++, x += 32, q += width * record_bytes, words += width * record_bytes) {
        if (special) {
            write_special(x, d, q, words, width);
            continue;
        }
        int32_t sums[2];
        Q::convert(x, scale, q, sums);
        write_words(words, width, d, sums[0], sums[1]);
    }
}

// Rows of x to places first.. of a tile, those columns of every row before the next, as they lie there.
template <class Q, ActKind kind>
void quantize_tile(const float *x, int64_t stride, int64_t rows, int64_t k, uint8_t *tile, int width, int first) {
    constexpr int columns = span_columns(kind), blocks = columns / 32;
    for (int64_t c = 0, end = 32 * act_blocks(k); c < end; c += columns, tile += blocks * width * record_bytes) {
        const int64_t count = k - c >= columns ? columns : k > c ? k - c : 0;
        for (int64_t j = 0; j < rows; j++) {
            const int64_t place = first + j;
            const float *from = x + j * stride + c;
            float part[columns];
            if (count < columns) {
                std::memset(part, 0, sizeof part);
                std::memcpy(part, from, static_cast<size_t>(count) * 4);
                from = part;
            }
            quantize_span<Q, blocks>(from, tile + 32 * place, tile + 32 * width + 4 * place, width);
        }
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
