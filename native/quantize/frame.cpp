// Rows of any float type to chunks of F32 for the encoders: conversion, the check for NaN and infinity, importance.

#include <algorithm>
#include <memory>

#include "quantize/codec.h"
#include "quantize/lanes.h"

namespace puna::PUNA_ISA {
namespace {

using quantize::chunk;
using quantize::Codec;
using quantize::Outcome;
using quantize::Rows;
using quantize::Source;

int64_t element_bytes(Source source) { return source == Source::f32 ? 4 : 2; }

void halves_to_floats(const uint8_t *from, int64_t count, float *to) {
    int64_t i = 0;
#if defined(__AVX512F__)
    for (; i + 16 <= count; i += 16)
        store(to + i, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(from + 2 * i))));
#elif defined(__AVX2__)
    for (; i + 8 <= count; i += 8)
        store(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(from + 2 * i))));
#endif
    for (; i < count; i++) to[i] = load_half(from + 2 * i);
}

// Elements begin .. begin + count of `rows` as F32.
void copy_floats(const Rows &rows, int64_t begin, int64_t count, float *to) {
    const uint8_t *from = rows.from + begin * element_bytes(rows.source);
    switch (rows.source) {
    case Source::f32: std::memcpy(to, from, size_t(4 * count)); break;
    case Source::f16: halves_to_floats(from, count, to); break;
    case Source::bf16:
        for (int64_t i = 0; i < count; i++) {
            uint16_t half;
            std::memcpy(&half, from + 2 * i, 2);
            to[i] = bfloat_to_float(half);
        }
    }
}

// Whether all magnitudes of a chunk are finite, and at most those that the type holds.
Outcome::What looked_through(const float *x, float most) {
    I largest[4] = {};
    for (int64_t i = 0; i < chunk; i += 4 * W)
        for (int k = 0; k < 4; k++) largest[k] = larger(largest[k], bits_of(load(x + i + k * W)) & 0x7fffffff);
    const I bits = larger(larger(largest[0], largest[1]), larger(largest[2], largest[3]));
    if (any(bits >= 0x7f800000)) return Outcome::not_finite;
    return any(from_bits(bits) > most) ? Outcome::too_large : Outcome::fine;
}

// The mean square of rows row .. row + W (at most `last`), each summed in order.
void mean_squares(const Rows &rows, int64_t row, int64_t last, float *out) {
    constexpr int64_t width = 256;
    alignas(64) float values[W * width], turned[W * W];
    F sum = set(0);
    for (int64_t column = 0; column < rows.columns; column += width) {
        const int64_t count = std::min(width, rows.columns - column);
        for (int r = 0; r < W; r++)
            copy_floats(rows, std::min(row + r, last) * rows.columns + column, count, values + r * width);
        for (int64_t i = 0; i < count; i += W) {
            transpose(values + i, width, turned, W);
            for (int k = 0; k < W; k++) {
                const F x = load(turned + k * W);
                sum += x * x;
            }
        }
    }
    store(out, sum / float(rows.columns));
}

std::unique_ptr<float[]> mean_squares(const Rows &rows) {
    std::unique_ptr<float[]> means(new float[size_t((rows.rows + W - 1) / W * W)]);
    for (int64_t row = 0; row < rows.rows; row += W) mean_squares(rows, row, rows.rows - 1, means.get() + row);
    return means;
}

// The importance of elements begin .. begin + count, which may be of several rows, and zeros to the end of the chunk.
void copy_importance(const Rows &rows, const float *means, int64_t begin, int64_t count, const float *x, float *to) {
    for (int64_t done = 0; done < count;) {
        const int64_t row = (begin + done) / rows.columns, column = (begin + done) % rows.columns;
        const int64_t run = std::min(count - done, rows.columns - column);
        std::memcpy(to + done, rows.importance + column, size_t(4 * run));
        if (means)
            for (int64_t i = done; i < done + run; i += W) {
                const F value = load(x + i);
                store(to + i, load(to + i) * root(means[row] + value * value));
            }
        done += run;
    }
    std::fill(to + count, to + chunk, 0.0f);
}

Outcome encode_rows(const Codec &codec, const Rows &rows) {
    alignas(64) float values[chunk], weights[chunk + 64];
    const int64_t total = rows.rows * rows.columns, most_bytes = chunk / codec.size * codec.bytes;
    const bool in_place = rows.source == Source::f32 && reinterpret_cast<uintptr_t>(rows.from) % alignof(float) == 0;
    const auto means = codec.by_row && rows.importance ? mean_squares(rows) : nullptr;
    std::unique_ptr<uint8_t[]> last;
    for (int64_t at = 0; at < total; at += chunk) {
        const int64_t count = std::min(chunk, total - at), blocks = count / codec.size;
        const float *x = reinterpret_cast<const float *>(rows.from) + at, *w = nullptr;
        if (!in_place || count < chunk) {
            copy_floats(rows, at, count, values);
            std::fill(values + count, values + chunk, 0.0f);
            x = values;
        }
        const Outcome::What seen = codec.size > 1 ? looked_through(x, codec.largest) : Outcome::fine;
        if (seen != Outcome::fine) return {seen, at};
        if (rows.importance) {
            copy_importance(rows, means.get(), at, count, x, weights);
            w = weights;
        }
        uint8_t *to = rows.to + at / codec.size * codec.bytes;
        if (count < chunk) last.reset(new uint8_t[size_t(most_bytes)]);
        if (!codec.encode(x, w, blocks, last ? last.get() : to)) return {Outcome::too_large, at};
        if (last) std::memcpy(to, last.get(), size_t(blocks * codec.bytes));
    }
    return {Outcome::fine, 0};
}

}  // namespace

#include "quantize/table.h"

constinit const quantize::Kernels quantize_kernels{codecs, encode_rows};

}  // namespace puna::PUNA_ISA
