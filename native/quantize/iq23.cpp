// IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S: what the search found, written as blocks (drawn in src/puna/quants/iq.py).

#include "quantize/iq_search.h"

namespace puna::PUNA_ISA {
namespace {

constexpr PointSearch iq2_xxs{Grid::IQ2_XXS, 2, 6, 0.1f, 1.0f, 1e-15f, true, Again::all};
constexpr PointSearch iq2_xs{Grid::IQ2_XS, 2, 9, 0.1f, 1.0f, 1e-15f, true, Again::off};
constexpr PointSearch iq2_s{Grid::IQ2_S, 2, 9, 0.1f, 0.9875f, 1e-8f, false, Again::off};
constexpr PointSearch iq3_xxs{Grid::IQ3_XXS, 7, 15, 0.2f, 1.0125f, 1e-8f, true, Again::off};
constexpr PointSearch iq3_s{Grid::IQ3_S, 7, 9, 0.2f, 1.033f, 0.0f, false, Again::any};

// Encodes blocks of `bytes` whose first two are the unit; `pack` writes the others.
template <int bits, int size, class Pack>
bool encode(const PointSearch &search, const float *x, const float *w, int64_t blocks, int bytes, uint8_t *to,
            Pack pack) {
    bool stored = true;
    for (int64_t b = 0; b < blocks; b += batch<size>) {
        Points found[batch<size>];
        search_points<bits, size>(search, x + 256 * b, w + 256 * b, found);
        for (int64_t i = 0; i < batch<size> && b + i < blocks; i++, to += bytes) {
            stored &= store_half(to, found[i].unit * search.fudge);
            pack(found[i], to + 2);
        }
    }
    return stored;
}

// Words of four times seven bits of signs and four bits of a scale, at every `stride` bytes.
void pack_sign_words(const Points &found, uint8_t *to, int stride) {
    for (int g = 0; g < 8; g++) {
        uint32_t word = uint32_t(found.factor[g]) << 28;
        for (int i = 0; i < 4; i++) word |= uint32_t(found.signs[4 * g + i] & 127) << 7 * i;
        std::memcpy(to + stride * g, &word, 4);
    }
}

void pack_nibbles(const uint8_t *factor, int bytes, uint8_t *to) {
    for (int i = 0; i < bytes; i++) to[i] = uint8_t(factor[2 * i] | factor[2 * i + 1] << 4);
}

// The bits from 8 on of `count` indices, `width` of each.
void pack_high_bits(const uint16_t *index, int count, int width, uint8_t *to) {
    for (int i = 0; i < count; i += 8 / width, to++) {
        *to = 0;
        for (int j = 0; j < 8 / width; j++) *to |= uint8_t(index[i + j] >> 8 << width * j);
    }
}

}  // namespace

bool encode_iq2_xxs(const float *x, const float *weights, int64_t blocks, uint8_t *to) {
    alignas(64) float w[quantize::chunk];
    importance<256>(x, weights, 1, w);
    return encode<2, 32>(iq2_xxs, x, w, blocks, 66, to, [](const Points &found, uint8_t *out) {
        for (int i = 0; i < 32; i++) out[8 * (i / 4) + i % 4] = uint8_t(found.index[i]);
        pack_sign_words(found, out + 4, 8);
    });
}

bool encode_iq2_xs(const float *x, const float *weights, int64_t blocks, uint8_t *to) {
    alignas(64) float w[quantize::chunk];
    importance<256>(x, weights, 1, w);
    return encode<2, 16>(iq2_xs, x, w, blocks, 74, to, [](const Points &found, uint8_t *out) {
        for (int i = 0; i < 32; i++) {
            const uint16_t word = uint16_t(found.index[i] | (found.signs[i] & 127) << 9);
            std::memcpy(out + 2 * i, &word, 2);
        }
        pack_nibbles(found.factor, 8, out + 64);
    });
}

bool encode_iq2_s(const float *x, const float *weights, int64_t blocks, uint8_t *to) {
    alignas(64) float w[quantize::chunk];
    importance<256>(x, weights, 2, w);
    if (!weights)
        for (int64_t b = 0; b < blocks; b++) {
            const float share = 0.25f * (sum_of_squares(x + 256 * b, 256) * (2.0f / 256.0f));
            for (int i = 0; i < 256; i++) w[256 * b + i] = share + w[256 * b + i];
        }
    return encode<2, 16>(iq2_s, x, w, blocks, 82, to, [](const Points &found, uint8_t *out) {
        for (int i = 0; i < 32; i++) out[i] = uint8_t(found.index[i]);
        std::memcpy(out + 32, found.signs, 32);
        pack_high_bits(found.index, 32, 2, out + 64);
        pack_nibbles(found.factor, 8, out + 72);
    });
}

bool encode_iq3_xxs(const float *x, const float *weights, int64_t blocks, uint8_t *to) {
    alignas(64) float w[quantize::chunk];
    importance<256>(x, weights, 2, w);
    return encode<3, 32>(iq3_xxs, x, w, blocks, 98, to, [](const Points &found, uint8_t *out) {
        for (int i = 0; i < 64; i++) out[i] = uint8_t(found.index[i]);
        pack_sign_words(found, out + 64, 4);
    });
}

bool encode_iq3_s(const float *x, const float *weights, int64_t blocks, uint8_t *to) {
    alignas(64) float w[quantize::chunk];
    importance<256>(x, weights, 2, w);
    return encode<3, 32>(iq3_s, x, w, blocks, 110, to, [](const Points &found, uint8_t *out) {
        for (int i = 0; i < 64; i++) out[i] = uint8_t(found.index[i]);
        pack_high_bits(found.index, 64, 1, out + 64);
        std::memcpy(out + 72, found.signs, 32);
        pack_nibbles(found.factor, 4, out + 104);
    });
}

}  // namespace puna::PUNA_ISA
