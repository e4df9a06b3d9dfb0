// Bit planes to bytes: the 8 lines of 32 columns, from each width of stored integers (drawn in panels.h); where these
// are indices, what they stand for.
//
// V is the vector of one instruction set; where it is narrower than a line, `p` points at its share of the first line.
#pragma once

#include "panels.h"

namespace puna {
namespace {

// (w shifted so that `from` becomes bit `to`) & mask; bits that cross bytes are masked away.
template <class V, int from, int to> typename V::Bytes field(typename V::Bytes w, typename V::Bytes mask) {
    if constexpr (from > to) return V::band(V::template shr<from - to>(w), mask);
    else if constexpr (from < to) return V::band(V::template shl<to - from>(w), mask);
    else return V::band(w, mask);
}

template <class V> inline __attribute__((always_inline)) void nibbles(const uint8_t *p, typename V::Bytes w[8]) {
    const auto mask = V::bytes(0x0f);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const auto line = V::load(p + 64 * i);
        w[i] = V::band(line, mask);
        w[i + 4] = field<V, 4, 0>(line, mask);
    }
}

// Two bits of each of 8 lines, placed at bit `to`.
template <class V, int to>
inline __attribute__((always_inline)) void pairs(const uint8_t *p, typename V::Bytes w[8]) {
    const auto mask = V::bytes(3 << to);
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        const auto line = V::load(p + 64 * h);
        w[4 * h] = field<V, 0, to>(line, mask);
        w[4 * h + 1] = field<V, 2, to>(line, mask);
        w[4 * h + 2] = field<V, 4, to>(line, mask);
        w[4 * h + 3] = field<V, 6, to>(line, mask);
    }
}

// One bit of each of 8 lines, placed at bit `to`.
template <class V, int to>
inline __attribute__((always_inline)) void singles(const uint8_t *p, typename V::Bytes w[8]) {
    const auto mask = V::bytes(1 << to);
    const auto line = V::load(p);
    w[0] = field<V, 0, to>(line, mask);
    w[1] = field<V, 1, to>(line, mask);
    w[2] = field<V, 2, to>(line, mask);
    w[3] = field<V, 3, to>(line, mask);
    w[4] = field<V, 4, to>(line, mask);
    w[5] = field<V, 5, to>(line, mask);
    w[6] = field<V, 6, to>(line, mask);
    w[7] = field<V, 7, to>(line, mask);
}

template <class V> inline __attribute__((always_inline)) void merge(typename V::Bytes w[8], typename V::Bytes high[8]) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) w[i] = V::bor(w[i], high[i]);
}

template <class V, int bits>
inline __attribute__((always_inline)) void planes(const uint8_t *p, typename V::Bytes w[8]) {
    if constexpr (bits == 8) {
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) w[i] = V::load(p + 64 * i);
    } else if constexpr (bits == 4) {
        nibbles<V>(p, w);
    } else if constexpr (bits == 2) {
        pairs<V, 0>(p, w);
    } else if constexpr (bits == 1) {
        singles<V, 0>(p, w);
    } else {
        typename V::Bytes high[8];
        if constexpr (bits == 3) pairs<V, 0>(p, w), singles<V, 2>(p + 128, high);
        if constexpr (bits == 5) nibbles<V>(p, w), singles<V, 4>(p + 256, high);
        if constexpr (bits == 6) nibbles<V>(p, w), pairs<V, 4>(p + 256, high);
        merge<V>(w, high);
    }
}

// The bytes of 32 columns of a type: below 1 << byte_bits(layout_of(type)), its offset included.
template <class V, Type type>
inline __attribute__((always_inline)) void lines(const uint8_t *p, typename V::Bytes w[8]) {
    constexpr Layout layout = layout_of(type);
    planes<V, layout.bits>(p, w);
    if constexpr (layout.levels != nullptr) {
        alignas(16) static constexpr Table table = table_of(layout);
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) w[i] = V::lookup(w[i], table.at);
    }
}

}  // namespace
}  // namespace puna
