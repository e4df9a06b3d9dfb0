// The scales of a panel as floats, for the lanes of one vector: once per group, then for every 32 columns. And the
// offset of its integers: where their sums start.
#pragma once

#include "sums.h"

namespace puna {
namespace {

// Scales of 32 columns for the lanes of one vector; two of each where they change after 16 columns.
template <class V> struct BlockScales {
    typename V::Floats d[2], m[2];
};

// What is read once per group.
template <class V> struct GroupScales {
    typename V::Floats d, m;
};

template <class V, Scales scales> PUNA_INLINE void read_group(const uint8_t *header, int lane, GroupScales<V> &group) {
    if constexpr (scales == Scales::k16 || scales == Scales::s32 || scales == Scales::df)
        group.d = V::load_f32(header + 4 * lane);
    if constexpr (scales == Scales::k32 || scales == Scales::k16m) {
        group.d = V::load_f16(header + 2 * lane);
        group.m = V::load_f16(header + 32 + 2 * lane);
    }
}

template <class V, Scales scales>
PUNA_INLINE void read_block(const uint8_t *header, int lane, int b, const GroupScales<V> &group, BlockScales<V> &s) {
    if constexpr (scales == Scales::d) s.d[0] = V::load_f16(header + 32 * b + 2 * lane);
    if constexpr (scales == Scales::df) s.d[0] = group.d;
    if constexpr (scales == Scales::s32) s.d[0] = V::mul(group.d, V::load_i8(header + 64 + 16 * b + lane));
    if constexpr (scales == Scales::e32) s.d[0] = V::load_e8m0(header + 16 * b + lane);
    if constexpr (scales == Scales::e16)
        for (int i = 0; i < 2; i++) s.d[i] = V::load_e4m3(header + 32 * b + 16 * i + lane);
    if constexpr (scales == Scales::dm) {
        s.d[0] = V::load_f16(header + 2 * lane);
        s.m[0] = V::load_f16(header + 32 + 2 * lane);
    }
    const uint8_t *small = header + 64 + 32 * b + lane;
    if constexpr (scales == Scales::k32) {
        s.d[0] = V::mul(group.d, V::load_u8(small));
        s.m[0] = V::mul(group.m, V::load_u8(small + 16));
    }
    if constexpr (scales == Scales::k16) {
        s.d[0] = V::mul(group.d, V::load_i8(small));
        s.d[1] = V::mul(group.d, V::load_i8(small + 16));
    }
    if constexpr (scales == Scales::k16m) {
        for (int i = 0; i < 2; i++) {
            s.d[i] = V::mul(group.d, V::load_low4(small + 16 * i));
            s.m[i] = V::mul(group.m, V::load_high4(small + 16 * i));
        }
    }
}

// Where the integer sum starts: -offset x sum of the activations, or of those of a half.
template <class V, int offset, bool halves>
PUNA_INLINE typename V::Ints start(const uint8_t *words, int width, int half) {
    const auto word = [&](int w) { return V::splat_int(words + 4 * width * w); };
    if constexpr (offset == 0 || (offset == 128 && V::signed_bytes)) {
        return V::zero_int();
    } else if constexpr (halves) {
        static_assert(offset == 4 || offset == 16 || offset == 32 || offset == 64);
        const auto n32 = word(word_n32 + half);
        if constexpr (offset == 4) return V::template sar<3>(n32);
        else if constexpr (offset == 16) return V::template sar<1>(n32);
        else if constexpr (offset == 32) return n32;
        else return V::add(n32, n32);
    } else {
        static_assert(offset == 1 || offset == 8 || offset == 16 || offset == 64 || offset == 128);
        if constexpr (offset == 1) return V::template sar<3>(word(word_n8));
        else if constexpr (offset == 8) return word(word_n8);
        else if constexpr (offset == 16) return V::add(word(word_n8), word(word_n8));
        else if constexpr (offset == 64) return V::template sar<1>(word(word_n128));
        else return word(word_n128);
    }
}

}  // namespace
}  // namespace puna
