// Steps of mixtures of experts: the largest elements of a row, and products of each row with the matrices it chose.

#include <cstring>

#include "kernels/panels.h"
#include "program.h"

namespace puna {

namespace {

// ---- top_k: views out (t, k) of I32, x (t, n). Each next is the largest that comes after the last: smaller, or equal
// and further right.

int64_t top_k_units(const Bound &bound, const Run &) { return bound.views[0].shape[0]; }

void top_k(const Bound &bound, const Run &, int64_t begin, int64_t end) {
    const View &out = bound.views[0], &x = bound.views[1];
    const int64_t count = out.shape[1], n = x.shape[1];
    for (int64_t r = begin; r < end; r++) {
        const float *row = x.as<float>() + r * x.strides[0];
        int32_t *places = out.as<int32_t>() + r * out.strides[0];
        int64_t last = -1;
        for (int64_t j = 0; j < count; j++) {
            int64_t best = -1;
            for (int64_t i = 0; i < n; i++) {
                const bool after = last < 0 || row[i] < row[last] || (row[i] == row[last] && i > last);
                if (after && (best < 0 || row[i] > row[best])) best = i;
            }
            places[j] = int32_t(best < 0 ? 0 : best);
            last = places[j];
        }
    }
}

// ---- experts: views y (pairs, n), x (rows, k), panels, ids (pairs), bias; ints: type, n, k, experts, pairs per row of x
//
// A unit is a band of one expert's panels. It finds the expert's rows, sixteen at a time, makes them activations in
// memory of the thread, and scatters the products. Units of neighbouring experts follow each other, so that few chosen
// ones are spread over the threads.

enum { type_of, out_columns, in_columns, expert_count, pairs_per_row };

constexpr int64_t cached_bytes = 192 << 10;  // panels of a unit stay in L2 beside a tile of rows
constexpr int64_t least_panels = 4;          // so that making activations costs little beside using them
constexpr int most_rows = 16;

struct Band {
    int64_t panel_bytes, all, group, count;
};

Band bands(Type type, int64_t n, int64_t k) {
    const int64_t bytes = panel_bytes(layout_of(type), k), all = panels(n);
    const int64_t group = std::min(all, std::max(least_panels, cached_bytes / bytes));
    return {bytes, all, group, (all + group - 1) / group};
}

int64_t experts_units(const Bound &bound, const Run &) {
    if (bound.views[0].shape[0] == 0) return 0;
    return bands(Type(bound.integer(type_of)), bound.integer(out_columns), bound.integer(in_columns)).count *
           bound.integer(expert_count);
}

size_t act_room(const Step &step) {
    return act_bytes(act_kind(Type(step.ints[type_of])), most_rows, step.ints[in_columns]);
}

size_t experts_scratch(const Step &step) {
    const Band band = bands(Type(step.ints[type_of]), step.ints[out_columns], step.ints[in_columns]);
    return act_room(step) + size_t(most_rows * band.group * panel_rows) * sizeof(float);
}

// `width` rows of one expert, whose pairs are given, times the panels from `first` up to `end`.
void multiply(const Bound &bound, const Run &run, const Band &band, int64_t expert, int64_t first, int64_t end,
              const int64_t *pairs, int width) {
    const View &y = bound.views[0], &x = bound.views[1], &bias = bound.views[4];
    const Type type = Type(bound.integer(type_of));
    const int64_t n = bound.integer(out_columns), k = bound.integer(in_columns);
    uint8_t *act = run.scratch;
    float *made = reinterpret_cast<float *>(run.scratch + act_room(*bound.step));
    for (int j = 0; j < width; j++) {
        const float *row = x.as<float>() + pairs[j] / bound.integer(pairs_per_row) * x.strides[0];
        quantize_rows(*run.linear, act_kind(type), row, 0, j, j + 1, width, k, act);
    }
    TileJob tile{};
    tile.panel = bound.views[2].data + expert * int64_t(packed_bytes(type, n, k)) + first * band.panel_bytes;
    tile.panel_bytes = band.panel_bytes;
    tile.count = end - first;
    tile.last_rows = std::min(panel_rows, n - (end - 1) * panel_rows);
    tile.groups = group_count(layout_of(type), k);
    tile.act = act;
    tile.y = made;
    tile.y_stride = band.group * panel_rows;
    tile.bias = bias.data ? bias.as<float>() + expert * n + first * panel_rows : nullptr;
    run.linear->tile[int(type)][__builtin_ctz(unsigned(width))](tile);
    const int64_t columns = std::min(end * panel_rows, n) - first * panel_rows;
    for (int j = 0; j < width; j++)
        std::memcpy(y.as<float>() + pairs[j] * y.strides[0] + first * panel_rows, made + j * tile.y_stride,
                    size_t(columns) * sizeof(float));
}

void experts(const Bound &bound, const Run &run, int64_t begin, int64_t end) {
    const View &ids = bound.views[3];
    const int64_t pairs = bound.views[0].shape[0], count = bound.integer(expert_count);
    const Band band = bands(Type(bound.integer(type_of)), bound.integer(out_columns), bound.integer(in_columns));
    for (int64_t unit = begin; unit < end; unit++) {
        const int64_t expert = unit % count, first = unit / count * band.group, last = std::min(band.all, first + band.group);
        int64_t found[most_rows];
        int waiting = 0;
        for (int64_t p = 0; p < pairs; p++) {
            const int32_t id = ids.as<int32_t>()[p * ids.strides[0]];
            if (id < 0 || id >= count) run.fail(bound);
            if (id != expert) continue;
            found[waiting++] = p;
            if (waiting == most_rows) multiply(bound, run, band, expert, first, last, found, most_rows), waiting = 0;
        }
        for (int done = 0, width = most_rows / 2; width > 0; width /= 2)
            if (waiting & width) multiply(bound, run, band, expert, first, last, found + done, width), done += width;
    }
}

}  // namespace

const std::vector<Kernel> expert_kernels = {
    {"top_k", top_k_units, top_k},
    {"experts", experts_units, experts, nullptr, experts_scratch},
};

}  // namespace puna
