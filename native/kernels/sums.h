// What every matrix kernel shares: where the sums of a tile go once they are complete.
#pragma once

#include "panels.h"

namespace puna {
namespace {

#define PUNA_INLINE inline __attribute__((always_inline))

constexpr int prefetch_distance = 2048;  // bytes; the hardware's own stops at every page and slows with many rows

// Writes the sums of `count` activation rows from `first` on to y, adding what is to be added.
template <class V, int count>
PUNA_INLINE void finish(const TileJob &job, int64_t p, int lane, int first, const typename V::Floats sum[count]) {
    alignas(64) float sums[count][V::lanes];
#pragma GCC unroll 16
    for (int j = 0; j < count; j++) V::store(sums[j], sum[j]);
    const int64_t rows = (p + 1 == job.count ? job.last_rows : panel_rows) - lane;
    float *y = job.y + first * job.y_stride + p * panel_rows + lane;
    const float *bias = job.bias ? job.bias + p * panel_rows + lane : nullptr;
#pragma GCC unroll 1
    for (int j = 0; j < count; j++, y += job.y_stride) {
        if (rows >= V::lanes) {
            auto value = V::load_f32(sums[j]);
            if (bias) value = V::addf(value, V::load_f32(bias));
            if (job.add) value = V::addf(V::load_f32(y), value);
            V::store(y, value);
            continue;
        }
#pragma GCC unroll 1
        for (int64_t i = 0; i < rows; i++) {
            const float value = bias ? sums[j][i] + bias[i] : sums[j][i];
            y[i] = job.add ? y[i] + value : value;
        }
    }
}

}  // namespace
}  // namespace puna
