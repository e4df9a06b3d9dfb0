// The matrix kernel for weights of 16-bit floats, as int16 products: twice the multiplications of f32 per instruction.
//
// 32 columns of a weight row and of an activation row become int16 with one scale each, chosen so that either's
// Euclidean norm is at most 2^15.5: by Cauchy-Schwarz no sum of their products leaves int32. The rounding is some 5e-5
// of a block's norm, a third of what rounding activations to f16 costs and a thirtieth of bf16.
//
// Tiles are those of floats.h; the registers hold the integer sums, and the float sums, touched once per 16 lines, stay
// in memory.
#pragma once

#include "sums.h"

namespace puna {
namespace {

// Rows first..first+count of a tile `width` wide; `v` counts vectors of weight rows from the first panel.
template <class V, int width, int count, int across>
PUNA_INLINE void panel_shorts(const TileJob &job, int64_t v, int first) {
    constexpr int64_t vectors = panel_rows / V::lanes;
    const uint8_t *power[across], *line[across];
    alignas(64) float sums[across][count][V::lanes];
#pragma GCC unroll 8
    for (int a = 0; a < across; a++) {
        const int64_t lane = (v + a) % vectors * V::lanes;
        power[a] = job.panel + (v + a) / vectors * job.panel_bytes + lane;
        line[a] = power[a] - lane + power_bytes(job.groups) + 4 * lane;
#pragma GCC unroll 16
        for (int j = 0; j < count; j++) V::store(sums[a][j], V::zero());
    }
    const uint8_t *q = job.act + 64 * first, *d = job.act + 64 * width + 4 * first;
    for (int64_t g = 0; g < job.groups; g++, q += record16_bytes * width, d += record16_bytes * width) {
        typename V::Ints dot[across][count];
#pragma GCC unroll 8
        for (int a = 0; a < across; a++) {
            if constexpr (count <= 4)  // with more, weights come from a cache
                V::prefetch(line[a] + prefetch_distance + (v + a) % vectors * 64 * V::lanes, 64 * V::lanes);
#pragma GCC unroll 16
            for (int j = 0; j < count; j++) dot[a][j] = V::zero_int();
        }
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++)
#pragma GCC unroll 16
            for (int j = 0; j < count; j++)
#pragma GCC unroll 8
                for (int a = 0; a < across; a++) V::dot_pairs(dot[a][j], line[a] + 64 * i, q + 64 * j + 4 * i);
#pragma GCC unroll 8
        for (int a = 0; a < across; a++) {
            const auto scale = V::load_power(power[a]);
#pragma GCC unroll 16
            for (int j = 0; j < count; j++) {
                const auto both = V::mul(scale, V::splat(d + 4 * j));  // first: a sum times either could overflow
                V::store(sums[a][j], V::fma(V::to_float(dot[a][j]), both, V::load_f32(sums[a][j])));
            }
            line[a] += 1024;
            power[a] += panel_rows;
        }
    }
#pragma GCC unroll 8
    for (int a = 0; a < across; a++) {
        typename V::Floats sum[count];
#pragma GCC unroll 16
        for (int j = 0; j < count; j++) sum[j] = V::load_f32(sums[a][j]);
        finish<V, count>(job, (v + a) / vectors, static_cast<int>((v + a) % vectors) * V::lanes, first, sum);
    }
}

}  // namespace
}  // namespace puna
