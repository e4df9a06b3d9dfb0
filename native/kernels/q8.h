// Activations to q8: writing one block's record, and the rare blocks that hold NaN or infinity.
#pragma once

#include <cstring>

#include "panels.h"

namespace puna {
namespace {

// Below this the block counts as zero, so that 127 / max stays finite.
constexpr float tiny = 1e-30f;

// `q` is the row's first byte in the block's record, `words` its first word, `width` the tile's.
inline void write_words(uint8_t *words, int width, float d, int32_t low, int32_t high) {
    const int32_t sum = low + high;
    const float floats[] = {d, d * static_cast<float>(sum), d * static_cast<float>(low), d * static_cast<float>(high)};
    const int32_t ints[] = {-8 * sum, -128 * sum, -32 * low, -32 * high};
    const int step = 4 * width;
    std::memcpy(words + step * word_d, floats, 4);
    std::memcpy(words + step * word_ds, floats + 1, 4);
    std::memcpy(words + step * word_n8, ints, 4);
    std::memcpy(words + step * word_n128, ints + 1, 4);
    std::memcpy(words + step * word_n32, ints + 2, 4);
    std::memcpy(words + step * word_n32b, ints + 3, 4);
    std::memcpy(words + step * word_ds16, floats + 2, 4);
    std::memcpy(words + step * word_ds16b, floats + 3, 4);
}

// NaN makes every output NaN; infinities stand for themselves and drown the finite values beside them.
inline void write_special(const float *x, int64_t count, uint8_t *q, uint8_t *words, int width) {
    float d = __builtin_inff();
    int32_t sums[2] = {0, 0};
    for (int64_t i = 0; i < count; i++) {
        if (x[i] != x[i]) d = __builtin_nanf("");
        const int value = x[i] > 3.4028235e38f ? 1 : x[i] < -3.4028235e38f ? -1 : 0;
        q[i] = static_cast<uint8_t>(value);
        sums[i / 16] += value;
    }
    std::memset(q + count, 0, static_cast<size_t>(32 - count));
    write_words(words, width, d, sums[0], sums[1]);
}

// Rows of x to places first.. of a tile, 32 columns of every row before the next 32, as they lie there; `block` quantizes up to 32 values, zero values beyond them.
template <void (*block)(const float *, int64_t, uint8_t *, uint8_t *, int)>
void quantize_tile(const float *x, int64_t stride, int64_t rows, int64_t k, uint8_t *tile, int width, int first) {
    for (int64_t c = 0, end = 32 * act_blocks(k); c < end; c += 32) {
        const int64_t count = k - c >= 32 ? 32 : k > c ? k - c : 0;
        for (int64_t j = 0; j < rows; j++) {
            const int64_t place = first + j;
            block(x + j * stride + c, count, tile + 32 * place, tile + 32 * width + 4 * place, width);
        }
        tile += width * record_bytes;
    }
}

}  // namespace
}  // namespace puna
