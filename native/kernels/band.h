// The matrix kernel for many activation rows (prefill): panels are unpacked once and used for a whole band of rows.
//
// 256 columns of a few vectors of weight rows become lines of bytes and f32 scales in memory that stays in L1; then one
// kernel per kind of scales, whatever the type, multiplies them with four activation rows at a time. With AVX-512 a
// tile is 3 panels x 4 rows: 12 integer sums, 12 of floats, 3 weights and one broadcast activation fill the registers,
// and each broadcast feeds 3 dot products, so that a processor with two of these a cycle is not held up by its loads.
// Between chunks of columns the float sums rest in L2. Operations for one output come in the same order as in tile.h.
#pragma once

#include <cstring>
#include <type_traits>

#include "planes.h"
#include "scales.h"

namespace puna {
namespace {

// Instruction sets without `band_vectors` use tile.h for many rows too.
template <class V> constexpr bool has_band = requires { V::band_vectors; };

// How a dot product is folded into the sum: with one scale, and a minimum; or with two of each, of 16 columns.
enum class Fold { one, one_min, halves, halves_mins };

constexpr Fold fold_of(Scales scales) {
    if (scales == Scales::dm || scales == Scales::k32) return Fold::one_min;
    if (scales == Scales::k16m) return Fold::halves_mins;
    return in_halves(scales) ? Fold::halves : Fold::one;
}

constexpr int scale_vectors(Fold fold) { return fold == Fold::one ? 1 : fold == Fold::halves_mins ? 4 : 2; }

// Types share a kernel: where sums of any bytes fit, offsets become 128 (32 or 64 by halves of 16 columns).
template <class V> constexpr int band_offset(Layout layout) {
    if (V::signed_bytes || layout.offset == 0) return layout.offset;
    if (in_halves(layout.scales)) return layout.offset <= 32 ? 32 : 64;
    return 128;
}

template <class V> constexpr int band_bits(Layout layout) { return V::signed_bytes ? byte_bits(layout) : 8; }

template <class V> constexpr int vector_bytes = 4 * V::lanes;

// Lines of one vector of weight rows, `step` vectors apart, and its scales: up to 8 blocks of 32 columns.
template <class V, Type type>
__attribute__((noinline)) void unpack(const uint8_t *group, int lane, int blocks, int step, uint8_t *line,
                                      float *scale) {
    constexpr Layout layout = layout_of(type);
    constexpr int moved = band_offset<V>(layout) - layout.offset;
    constexpr Fold fold = fold_of(layout.scales);
    constexpr int in_group = group_columns(layout.scales) / 32, header = header_bytes(layout.scales);
    constexpr int block_bytes = plane_bytes(layout.bits), size = vector_bytes<V>;
    for (int b = 0; b < blocks; b += in_group) {
        GroupScales<V> of_group;
        read_group<V, layout.scales>(group, lane, of_group);
        for (int i = 0; i < in_group && b + i < blocks; i++) {
            BlockScales<V> s;
            read_block<V, layout.scales>(group, lane, i, of_group, s);
            typename V::Bytes w[8];
            const uint8_t *planes = group + header + i * block_bytes + 4 * lane;
            V::prefetch(planes + blocks / in_group * (header + in_group * block_bytes), block_bytes);  // the next chunk
            lines<V, type>(planes, w);
#pragma GCC unroll 8
            for (int j = 0; j < 8; j++, line += step * size) V::store_bytes(line, V::template moved<moved>(w[j]));
            const auto put = [&](typename V::Floats value) { V::store(scale, value), scale += step * V::lanes; };
            put(s.d[0]);
            if constexpr (fold == Fold::halves || fold == Fold::halves_mins) put(s.d[1]);
            if constexpr (fold == Fold::one_min || fold == Fold::halves_mins) put(s.m[0]);
            if constexpr (fold == Fold::halves_mins) put(s.m[1]);
        }
        group += header + in_group * block_bytes;
    }
}

// Lines first..first+count of `across` vectors times those columns of `rows` activation rows, added to `sum`.
template <class V, int bits, int first, int count, int rows, int across>
PUNA_INLINE void multiply(typename V::Ints (&sum)[rows][across], const uint8_t *line, const uint8_t *q) {
    line += first * across * vector_bytes<V>;
#pragma GCC unroll 8
    for (int i = first; i < first + count; i++) {
        typename V::Bytes w[across];
#pragma GCC unroll 4
        for (int p = 0; p < across; p++, line += vector_bytes<V>) w[p] = V::load(line);
#pragma GCC unroll 4
        for (int j = 0; j < rows; j++) {
            const auto x = V::splat_held(q + 32 * j + 4 * i);
#pragma GCC unroll 4
            for (int p = 0; p < across; p++) sum[j][p] = V::dot(sum[j][p], w[p], x);
        }
    }
}

// `across` unpacked vectors times four activation rows; `sum` holds their float sums, row by row. Activations share a
// scale over `span` blocks: what those give is weighed with it and added to the sums in memory; there are no registers
// for them.
template <class V, Fold fold, int offset, int bits, int span, int across>
__attribute__((noinline)) void multiply_chunk(const uint8_t *line, const float *scale, const uint8_t *act, int blocks,
                                              float *sum) {
    constexpr int rows = band_tile, lanes = V::lanes;
    constexpr bool halves = fold == Fold::halves || fold == Fold::halves_mins;
    typename V::Floats part[rows][across];
    const auto each = [](auto &&f) {
#pragma GCC unroll 4
        for (int j = 0; j < rows; j++)
#pragma GCC unroll 4
            for (int p = 0; p < across; p++) f(j, p);
    };
    each([&](int j, int p) { part[j][p] = V::zero(); });
#pragma GCC unroll 1
    for (int b = 1; b <= blocks; b++) {
        typename V::Ints dot[rows][across];
        const uint8_t *words = act + 32 * rows;
        const auto word = [&](int w, int j) { return V::splat(words + 4 * (rows * w + j)); };
        const auto scales = [&](int s, int p) { return V::load_f32(scale + (s * across + p) * lanes); };
        const auto add = [&](int half) {
            each([&](int j, int p) { part[j][p] = V::fma(V::to_float(dot[j][p]), scales(half, p), part[j][p]); });
        };
        const auto add_min = [&](int s, int w) {
            each([&](int j, int p) { part[j][p] = V::fma(scales(s, p), word(w, j), part[j][p]); });
        };
        each([&](int j, int p) { dot[j][p] = start<V, offset, halves>(words + 4 * j, rows, 0); });
        multiply<V, bits, 0, halves ? 4 : 8>(dot, line, act);
        add(0);
        if constexpr (halves) {
            each([&](int j, int p) { dot[j][p] = start<V, offset, halves>(words + 4 * j, rows, 1); });
            multiply<V, bits, 4, 4>(dot, line, act);
            add(1);
        }
        if constexpr (fold == Fold::one_min) add_min(1, word_sum);
        if constexpr (fold == Fold::halves_mins) add_min(2, word_sum16), add_min(3, word_sum16b);
        if (b % span == 0)
            each([&](int j, int p) {
                float *total = sum + (j * across + p) * lanes;
                V::store(total, V::fma(part[j][p], word(word_d, j), V::load_f32(total)));
                part[j][p] = V::zero();
            });
        line += 8 * across * vector_bytes<V>;
        scale += scale_vectors(fold) * across * lanes;
        act += rows * record_bytes;
    }
}

// The scratch of a band: lines and scales of one chunk of some vectors, then the sums of all.
template <class V> struct BandScratch {
    static constexpr int most = V::band_vectors;
    alignas(64) uint8_t lines[band_blocks * 8 * most * vector_bytes<V>];
    alignas(64) float scales[band_blocks * 4 * most * V::lanes];
    alignas(64) float sums[band_panels * panel_rows * band_rows];
};

// One chunk of `across` vectors from vector v on, for all rows of the band.
template <class V, Type type, int across>
void band_chunk(const BandJob &job, int64_t v, int64_t chunk, int blocks) {
    constexpr Layout layout = layout_of(type);
    constexpr int64_t in_panel = panel_rows / V::lanes;
    constexpr int in_group = group_columns(layout.scales) / 32;
    constexpr int64_t group_bytes = header_bytes(layout.scales) + in_group * plane_bytes(layout.bits);
    constexpr int64_t chunk_bytes = band_blocks / in_group * group_bytes;
    static_assert(sizeof(BandScratch<V>) <= band_scratch);
    auto &scratch = *reinterpret_cast<BandScratch<V> *>(job.scratch);
    for (int p = 0; p < across; p++)
        unpack<V, type>(job.tile.panel + (v + p) / in_panel * job.tile.panel_bytes + chunk * chunk_bytes,
                        static_cast<int>((v + p) % in_panel) * V::lanes, blocks, across,
                        scratch.lines + p * vector_bytes<V>, scratch.scales + p * V::lanes);
    const int64_t tile_bytes = act_blocks(32 * blocks) * band_tile * record_bytes;
    const uint8_t *act = job.tile.act + chunk * job.chunk_stride + job.first / band_tile * tile_bytes;
    const int64_t rows = padded_rows(job.rows);
    float *sum = scratch.sums + v * V::lanes * rows;
    constexpr int span = span_columns(act_kind_of(layout.scales)) / 32;
    const bool last = 32 * (chunk * band_blocks + blocks) >= 32 * in_group * job.tile.groups;
    const float *y = job.tile.y + v * V::lanes;
    for (int64_t r = 0; r < rows; r += band_tile, act += tile_bytes, sum += band_tile * across * V::lanes) {
        if (last)  // rows of y are pages apart: to wait for each as it is written takes 5 to 8 % of a product
            for (int64_t i = r; i < r + band_tile && i < job.rows; i++)
                for (int p = 0; p < across; p++) V::prefetch_write(y + i * job.tile.y_stride + p * V::lanes);
        multiply_chunk<V, fold_of(layout.scales), band_offset<V>(layout), band_bits<V>(layout), span, across>(
            scratch.lines, scratch.scales, act, blocks, sum);
    }
}

// The sums of `across` vectors from vector v on, to y.
template <class V, int across> void band_finish(const BandJob &job, int64_t v) {
    constexpr int64_t in_panel = panel_rows / V::lanes;
    const int64_t rows = padded_rows(job.rows);
    const float *sum = reinterpret_cast<BandScratch<V> *>(job.scratch)->sums + v * V::lanes * rows;
    for (int64_t r = 0; r < job.rows; r++)
        for (int p = 0; p < across; p++, sum += V::lanes) {
            const typename V::Floats total[1] = {V::load_f32(sum)};
            const int lane = static_cast<int>((v + p) % in_panel) * V::lanes;
            finish<V, 1>(job.tile, (v + p) / in_panel, lane, static_cast<int>(r), total);
        }
}

// All vectors, `V::band_vectors` at a time, then what is left.
template <class V, class F> void across_vectors(int64_t vectors, F &&f) {
    constexpr int most = V::band_vectors;
    int64_t v = 0;
    for (; v + most <= vectors; v += most) f(v, std::integral_constant<int, most>());
    if constexpr (most > 2)
        if (v + 2 <= vectors) f(v, std::integral_constant<int, 2>()), v += 2;
    if constexpr (most > 1 && panel_rows / V::lanes % most != 0)
        if (v < vectors) f(v, std::integral_constant<int, 1>());
}

template <class V, Type type> void band(const BandJob &job) {
    constexpr int64_t columns = group_columns(layout_of(type).scales);
    const int64_t blocks = job.tile.groups * columns / 32, vectors = job.tile.count * (panel_rows / V::lanes);
    const int64_t rows = padded_rows(job.rows);
    float *sums = reinterpret_cast<BandScratch<V> *>(job.scratch)->sums;
    std::memset(sums, 0, static_cast<size_t>(vectors * V::lanes * rows) * sizeof(float));
    for (int64_t b = 0; b < blocks; b += band_blocks) {
        const int some = static_cast<int>(blocks - b < band_blocks ? blocks - b : band_blocks);
        across_vectors<V>(vectors, [&](int64_t v, auto across) {
            band_chunk<V, type, across()>(job, v, b / band_blocks, some);
        });
    }
    across_vectors<V>(vectors, [&](int64_t v, auto across) { band_finish<V, across()>(job, v); });
}

}  // namespace
}  // namespace puna
