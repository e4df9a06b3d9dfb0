// The matrix kernel for float weights: columns one by one, in f32.
//
// Several neighbouring vectors of weight rows are done at a time where there are few activation rows, since one chain of
// sums would wait for itself. The order of operations for one output is the same for every count.
#pragma once

#include "sums.h"

namespace puna {
namespace {

// Rows first..first+count of a tile `width` wide, for `across` neighbouring vectors of weight rows; `v` counts vectors of
// rows from the first panel.
template <class V, Type type, int width, int count, int across>
PUNA_INLINE void panel_floats(const TileJob &job, int64_t v, int first) {
    constexpr int size = type == Type::F32 ? 4 : 2;
    constexpr int64_t vectors = panel_rows / V::lanes;
    const uint8_t *weight[across];
    typename V::Floats sum[across][count];
#pragma GCC unroll 8
    for (int a = 0; a < across; a++) {
        weight[a] = job.panel + (v + a) / vectors * job.panel_bytes + size * V::lanes * ((v + a) % vectors);
#pragma GCC unroll 16
        for (int j = 0; j < count; j++) sum[a][j] = V::zero();
    }
    const uint8_t *x = job.act + 4 * first;
    for (int64_t c = 0; c < job.groups; c++) {
#pragma GCC unroll 8
        for (int a = 0; a < across; a++) {
            const uint8_t *p = weight[a] + c * size * panel_rows;
            V::prefetch(p + prefetch_distance, 64);
            typename V::Floats w;
            if constexpr (type == Type::F32) w = V::load_f32(p);
            else if constexpr (type == Type::F16) w = V::load_f16(p);
            else w = V::load_bf16(p);
#pragma GCC unroll 16
            for (int j = 0; j < count; j++) sum[a][j] = V::fma(w, V::splat(x + 4 * j), sum[a][j]);
        }
        x += 4 * width;
    }
#pragma GCC unroll 8
    for (int a = 0; a < across; a++)
        finish<V, count>(job, (v + a) / vectors, static_cast<int>((v + a) % vectors) * V::lanes, first, sum[a]);
}

template <class V, Type type, int width, int count> PUNA_INLINE void float_panels(const TileJob &job) {
    constexpr int most = float_panels_at_once * panel_rows / V::lanes, wanted = 8 / count > 1 ? 8 / count : 1;
    constexpr int across = wanted < most ? wanted : most;
    const int64_t vectors = job.count * (panel_rows / V::lanes);
    int64_t v = 0;
    for (; v + across <= vectors; v += across)
#pragma GCC unroll 1
        for (int first = 0; first < width; first += count) panel_floats<V, type, width, count, across>(job, v, first);
    if constexpr (across > 1)
        for (; v < vectors; v++)
#pragma GCC unroll 1
            for (int first = 0; first < width; first += count) panel_floats<V, type, width, count, 1>(job, v, first);
}

}  // namespace
}  // namespace puna
