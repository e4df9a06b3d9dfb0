// The matrix kernel for few activation rows (for many, see band.h): one panel (16 rows of the weight) times `count` of
// them, accumulated in registers.
//
// Per 32 columns the weight is 8 registers of bytes, used for every activation row: 8 integer dot products, then a
// fused add per row with the weight's scale, and one with the activations', where that ends. With AVX-512, 8 weights
// and 16 sums fill the 32 registers (16 x 16 tile); with AVX2 a panel is done in two halves and 4 rows at a time. With
// one row it is the decode kernel: a single sequential pass over the panel. The order of operations for one output is
// the same for every `count`.
#pragma once

#include "band.h"
#include "floats.h"
#include "q16.h"

namespace puna {
namespace {

// Adds 32 columns of `side` activation rows (`fresh`: to nothing), weighed by the weight's scales. Their dot products
// are interleaved: each is a chain of dependent instructions, and more of them in flight keep the multipliers busy.
// `q`: the first row's bytes; `words`: its first word.
template <class V, Type type, int side, bool fresh>
PUNA_INLINE void add_block(typename V::Floats *sum, const typename V::Bytes w[8], const BlockScales<V> &s,
                           const uint8_t *q, const uint8_t *words, int width) {
    constexpr Layout layout = layout_of(type);
    constexpr bool halves = in_halves(layout.scales);
    const auto word = [&](int i, int j) { return V::splat(words + 4 * width * i + 4 * j); };
    typename V::Ints dot[side];
#pragma GCC unroll 4
    for (int j = 0; j < side; j++) dot[j] = start<V, layout.offset, halves>(words + 4 * j, width, 0);
    V::template dot<byte_bits(layout), halves ? 4 : 8, side>(dot, w, q);
#pragma GCC unroll 4
    for (int j = 0; j < side; j++) {
        const auto value = V::to_float(dot[j]);
        sum[j] = fresh ? V::mul(value, s.d[0]) : V::fma(value, s.d[0], sum[j]);
    }
    if constexpr (halves) {
#pragma GCC unroll 4
        for (int j = 0; j < side; j++) dot[j] = start<V, layout.offset, halves>(words + 4 * j, width, 1);
        V::template dot<byte_bits(layout), 4, side>(dot, w + 4, q + 16);
#pragma GCC unroll 4
        for (int j = 0; j < side; j++) sum[j] = V::fma(V::to_float(dot[j]), s.d[1], sum[j]);
    }
#pragma GCC unroll 4
    for (int j = 0; j < side; j++) {
        if constexpr (layout.scales == Scales::k16m) {
            sum[j] = V::fma(s.m[0], word(word_sum16, j), sum[j]);
            sum[j] = V::fma(s.m[1], word(word_sum16b, j), sum[j]);
        }
        if constexpr (layout.scales == Scales::dm || layout.scales == Scales::k32)
            sum[j] = V::fma(s.m[0], word(word_sum, j), sum[j]);
    }
}

// Adds what the columns that share the activations' scale gave.
template <class V, int count>
PUNA_INLINE void fold_span(typename V::Floats sum[count], const typename V::Floats part[count], const uint8_t *words) {
#pragma GCC unroll 16
    for (int j = 0; j < count; j++) sum[j] = V::fma(part[j], V::splat(words + 4 * j), sum[j]);
}

// Rows first..first+count of a tile `width` wide, lanes `lane`.. of panel p.
template <class V, Type type, int width, int count>
PUNA_INLINE void panel_integers(const TileJob &job, int64_t p, int lane, int first) {
    constexpr Layout layout = layout_of(type);
    constexpr int blocks = group_columns(layout.scales) / 32, header = header_bytes(layout.scales);
    constexpr int block_bytes = plane_bytes(layout.bits), most = V::template side<layout.scales>;
    static_assert(wide_columns == 64);
    constexpr int side = most < count ? most : count, span = span_columns(act_kind_of(layout.scales)) / 32;
    constexpr int ahead = count == 1 ? 6144 : 8192;  // bytes: latency times 30 GB/s, and room for where work bunches
    const uint8_t *weight = job.panel + p * job.panel_bytes;
    const uint8_t *q = job.act + 32 * first, *words = job.act + 32 * width + 4 * first;
    typename V::Floats sum[count], part[count];
#pragma GCC unroll 16
    for (int j = 0; j < count; j++) sum[j] = V::zero();
    for (int64_t g = 0; g < job.groups; g++) {
        GroupScales<V> group;
        read_group<V, layout.scales>(weight, lane, group);
        if (lane == 0) V::prefetch(weight + ahead, header);
        const auto block = [&](int b, auto place) {  // `place` in the span
            BlockScales<V> scales;
            read_block<V, layout.scales>(weight, lane, b, group, scales);
            typename V::Bytes w[8];
            const uint8_t *planes = weight + header + b * block_bytes + 4 * lane;
            V::prefetch(planes + ahead, block_bytes);
            lines<V, type>(planes, w);
#pragma GCC unroll 16
            for (int j = 0; j < count; j += side) {
                add_block<V, type, side, place() == 0>(part + j, w, scales, q + 32 * j, words + 4 * j, width);
                if constexpr (place() == span - 1) fold_span<V, side>(sum + j, part + j, words + 4 * j);
            }
            q += width * record_bytes;
            words += width * record_bytes;
        };
#pragma GCC unroll 1
        for (int b = 0; b < blocks; b += span) {
            block(b, std::integral_constant<int, 0>());
            if constexpr (span == 2) block(b + 1, std::integral_constant<int, 1>());
        }
        weight += header + blocks * block_bytes;
    }
    finish<V, count>(job, p, lane, first, sum);
}

template <class V, Type type, int width> void tile(const TileJob &job) {
    constexpr int count = width < V::tile_rows ? width : V::tile_rows;
    if constexpr (!is_q8(act_kind_of(layout_of(type).scales))) return float_panels<V, type, width>(job);
    else
        for (int64_t p = 0; p < job.count; p++)
#pragma GCC unroll 1
            for (int first = 0; first < width; first += count)
#pragma GCC unroll 1
                for (int lane = 0; lane < panel_rows; lane += V::lanes)
                    panel_integers<V, type, width, count>(job, p, lane, first);
}

template <class V, Type type> constexpr void fill_type(LinearKernels &kernels) {
    auto &row = kernels.tile[static_cast<int>(type)];
    row[0] = tile<V, type, 1>;
    row[1] = tile<V, type, 2>;
    row[2] = tile<V, type, 4>;
    row[3] = tile<V, type, 8>;
    row[4] = tile<V, type, 16>;
    if constexpr (has_band<V> && is_q8(act_kind_of(layout_of(type).scales)))
        kernels.band[static_cast<int>(type)] = band<V, type>;
}

template <class V> constexpr LinearKernels table() {
    LinearKernels kernels{};
#define PUNA_FILL(name, number) fill_type<V, Type::name>(kernels);
    PUNA_TYPES(PUNA_FILL)
#undef PUNA_FILL
    fill_shorts<V>(kernels);
    return kernels;
}

}  // namespace
}  // namespace puna
