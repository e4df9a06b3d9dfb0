// The search among the neighbours of a cell for the point with the least weighted error: where the time of the IQ types
// goes. Sixteen (or eight) neighbours at once; the error of each level at each coordinate is computed once, in a table.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "quantize/lattice.h"

namespace puna::PUNA_ISA {

// error[coordinate][level] of points at scale * values[level].
template <int bits> struct Errors {
    static constexpr int axes = bits == 2 ? 8 : 4, levels = 1 << bits;
    alignas(64) float error[axes][levels];

    Errors(const float *x, const float *w, const float *values, float scale) {
        for (int a = 0; a < axes; a++)
            for (int l = 0; l < levels; l++) {
                const float difference = values[l] * scale - x[a];
                error[a][l] = difference * w[a] * difference;
            }
    }

    float of(uint32_t code) const {
        float sum = error[0][code % levels];
        for (int a = 1; a < axes; a++) sum += error[a][code >> bits * a & (levels - 1)];
        return sum;
    }

    // The first NaN counts as least, as it does for numpy.
    uint16_t least(const uint16_t *near, int count) const {
        uint16_t best = near[0];
        float lowest = of(best);
        for (int i = 1; i < count && !std::isnan(lowest); i++)
            if (const float e = of(near[i]); e < lowest || std::isnan(e)) best = near[i], lowest = e;
        return best;
    }
};

// The neighbour with the least error. `near` may be read up to a multiple of 16, as it repeats the first.
#if defined(__AVX512F__)

template <int bits> inline uint16_t least(const Errors<bits> &table, const uint16_t *near, int count) {
    constexpr int axes = Errors<bits>::axes;
    __m512 row[axes];  // a table repeated, as vpermps looks at four bits
    for (int a = 0; a < axes; a++)
        row[a] = bits == 2 ? _mm512_broadcast_f32x4(_mm_load_ps(table.error[a]))
                           : _mm512_broadcast_f32x8(_mm256_load_ps(table.error[a]));
    __m512 lowest = _mm512_undefined_ps();
    __m512i where = _mm512_setzero_si512();
    __mmask16 odd = 0;
    for (int at = 0; at < count; at += 16) {
        const __m512i code = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(near + at)));
        __m512 sum = _mm512_permutexvar_ps(code, row[0]);
        for (int a = 1; a < axes; a++)
            sum = _mm512_add_ps(sum, _mm512_permutexvar_ps(_mm512_srli_epi32(code, bits * a), row[a]));
        odd |= _mm512_cmp_ps_mask(sum, sum, _CMP_UNORD_Q);
        const __mmask16 less = at ? _mm512_cmp_ps_mask(sum, lowest, _CMP_LT_OQ) : 0xffff;
        lowest = _mm512_mask_mov_ps(lowest, less, sum);
        where = _mm512_mask_mov_epi32(where, less, _mm512_set1_epi32(at));
    }
    if (odd) return table.least(near, count);
    const __mmask16 best = _mm512_cmp_ps_mask(lowest, _mm512_set1_ps(_mm512_reduce_min_ps(lowest)), _CMP_EQ_OQ);
    if (count <= 16) return near[__builtin_ctz(best)];
    const __m512i iota = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return near[_mm512_mask_reduce_min_epi32(best, _mm512_add_epi32(where, iota))];
}

#elif defined(__AVX2__)

template <int bits> inline uint16_t least(const Errors<bits> &table, const uint16_t *near, int count) {
    constexpr int axes = Errors<bits>::axes;
    __m256 row[axes];
    for (int a = 0; a < axes; a++)
        row[a] = bits == 2 ? _mm256_broadcast_ps((const __m128 *)table.error[a]) : _mm256_load_ps(table.error[a]);
    __m256 lowest = _mm256_setzero_ps(), odd = _mm256_setzero_ps();
    __m256i where = _mm256_setzero_si256();
    for (int at = 0; at < count; at += 8) {
        const __m256i code = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(near + at)));
        __m256 sum = _mm256_permutevar8x32_ps(row[0], code);
        for (int a = 1; a < axes; a++)
            sum = _mm256_add_ps(sum, _mm256_permutevar8x32_ps(row[a], _mm256_srli_epi32(code, bits * a)));
        odd = _mm256_or_ps(odd, _mm256_cmp_ps(sum, sum, _CMP_UNORD_Q));
        const __m256 less = at ? _mm256_cmp_ps(sum, lowest, _CMP_LT_OQ) : _mm256_castsi256_ps(_mm256_set1_epi32(-1));
        lowest = _mm256_blendv_ps(lowest, sum, less);
        where = _mm256_blendv_epi8(where, _mm256_set1_epi32(at), _mm256_castps_si256(less));
    }
    if (_mm256_movemask_ps(odd)) return table.least(near, count);
    __m256 low = _mm256_min_ps(lowest, _mm256_permute2f128_ps(lowest, lowest, 1));
    low = _mm256_min_ps(low, _mm256_permute_ps(low, 0x4e));
    low = _mm256_min_ps(low, _mm256_permute_ps(low, 0xb1));
    const unsigned best = unsigned(_mm256_movemask_ps(_mm256_cmp_ps(lowest, low, _CMP_EQ_OQ)));
    if (count <= 8) return near[__builtin_ctz(best)];
    alignas(32) int place[8];
    _mm256_store_si256((__m256i *)place, _mm256_add_epi32(where, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)));
    int first = place[__builtin_ctz(best)];
    for (unsigned rest = best & (best - 1); rest; rest &= rest - 1) first = std::min(first, place[__builtin_ctz(rest)]);
    return near[first];
}

#else

template <int bits>
inline uint16_t least(const Errors<bits> &table, const uint16_t *near, int count) {
    return table.least(near, count);
}

#endif

// The point that stands for a cell (a code) at values x, by the w-weighted error. The code is that of a neighbour.
template <int bits>
inline uint16_t closest(const Lattice &lattice, uint32_t cell, const float *x, const float *w, const float *values,
                        float scale) {
    return least(Errors<bits>(x, w, values, scale), lattice.near.data() + 16 * (cell >> 9), int(cell & 511));
}

}  // namespace puna::PUNA_ISA
