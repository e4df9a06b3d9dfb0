// What decoders share: bytes and bits to lanes.
#pragma once

#include "quantize/lanes.h"

namespace puna::PUNA_ISA {

// The numbers of the lanes.
PUNA_INLINE I iota() {
    I out;
    for (int i = 0; i < W; i++) out[i] = i;
    return out;
}

template <class T> PUNA_INLINE I load_ints(const void *from) {
    typedef T Narrow __attribute__((vector_size(W * sizeof(T))));
    Narrow narrow;
    std::memcpy(&narrow, from, sizeof narrow);
    return __builtin_convertvector(narrow, I);
}

template <class T> PUNA_INLINE T load_as(const uint8_t *from) {
    T out;
    std::memcpy(&out, from, sizeof out);
    return out;
}

// Bits first .. first + W of `bits`, one to a lane.
PUNA_INLINE I bit_lanes(uint32_t bits, int first) { return (set_int(int32_t(bits)) >> (iota() + first)) & 1; }

// Entries of a table of 16.
PUNA_INLINE F pick(const float *table, I index) {
#if defined(__AVX512F__)
    return _mm512_permutexvar_ps((__m512i)index, _mm512_loadu_ps(table));
#elif defined(__AVX2__)
    const __m256 low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), (__m256i)index);
    const __m256 high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8), (__m256i)index);
    return _mm256_blendv_ps(low, high, (__m256)(index << 28));
#else
    F out;
    for (int i = 0; i < W; i++) out[i] = table[index[i]];
    return out;
#endif
}

// A half and its bits, whatever they are: a NaN keeps them all.
PUNA_INLINE F from_halves(I half) {
    const I rest = (half & 0x7fff) << 13, sign = (half & 0x8000) << 16;
    const I finite = bits_of(from_bits(rest) * 0x1p112f);
    return from_bits(where(rest >= 0x0f800000, rest | 0x7f800000, finite) | sign);
}

PUNA_INLINE float half_at(const uint8_t *from) { return from_halves(set_int(load_as<uint16_t>(from)))[0]; }

}  // namespace puna::PUNA_ISA
