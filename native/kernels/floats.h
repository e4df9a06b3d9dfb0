// The matrix kernels for float weights: f32 here, column by column; 16-bit floats as integers in shorts.h.
//
// A tile is `across` vectors of weight rows times `count` activation rows, with as many sums as registers hold (2 x 8
// with AVX-512, 4 x 1 in decode): a weight or an activation loaded serves several multiplications, since loads are the
// second limit, and no chain of sums waits for itself. The order of operations for one output is always the same.
#pragma once

#include "shorts.h"

namespace puna {
namespace {

// Rows first..first+count of a tile `width` wide; `v` counts vectors of weight rows from the first panel.
template <class V, int width, int count, int across>
PUNA_INLINE void panel_floats(const TileJob &job, int64_t v, int first) {
    constexpr int64_t vectors = panel_rows / V::lanes;
    const uint8_t *weight[across];
    typename V::Floats sum[across][count];
#pragma GCC unroll 8
    for (int a = 0; a < across; a++) {
        weight[a] = job.panel + (v + a) / vectors * job.panel_bytes + 4 * V::lanes * ((v + a) % vectors);
#pragma GCC unroll 16
        for (int j = 0; j < count; j++) sum[a][j] = V::zero();
    }
    const uint8_t *x = job.act + 4 * first;
    for (int64_t c = 0; c < job.groups; c++) {
        typename V::Floats w[across];
#pragma GCC unroll 8
        for (int a = 0; a < across; a++) {
            // With more rows, they are cached.
            if constexpr (count <= 4) V::prefetch(weight[a] + 64 * c + prefetch_distance, 64);
            w[a] = V::load_f32(weight[a] + 64 * c);
        }
#pragma GCC unroll 16
        for (int j = 0; j < count; j++) {
#pragma GCC unroll 8
            for (int a = 0; a < across; a++) sum[a][j] = V::fma(w[a], V::splat(x + 4 * j), sum[a][j]);
        }
        x += 4 * width;
    }
#pragma GCC unroll 8
    for (int a = 0; a < across; a++)
        finish<V, count>(job, (v + a) / vectors, static_cast<int>((v + a) % vectors) * V::lanes, first, sum[a]);
}

template <class V, Type type, int width, int count, int across>
PUNA_INLINE void float_tiles(const TileJob &job, int64_t v) {
#pragma GCC unroll 1
    for (int first = 0; first < width; first += count)
        if constexpr (type == Type::F32) panel_floats<V, width, count, across>(job, v, first);
        else panel_shorts<V, width, count, across>(job, v, first);
}

template <class V, Type type, int width> PUNA_INLINE void float_panels(const TileJob &job) {
    constexpr int count = width < V::float_rows ? width : V::float_rows;
    constexpr int64_t most = float_panels_at_once * panel_rows / V::lanes, fit = V::float_sums / count;
    constexpr int across = static_cast<int>(fit < most ? fit : most);
    const int64_t vectors = job.count * (panel_rows / V::lanes), whole = vectors / across * across;
    for (int64_t v = 0; v < whole; v += across) float_tiles<V, type, width, count, across>(job, v);
    if constexpr (across > 1)
        for (int64_t v = whole; v < vectors; v++) float_tiles<V, type, width, count, 1>(job, v);
}

}  // namespace
}  // namespace puna
