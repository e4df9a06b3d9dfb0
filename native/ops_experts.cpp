// Steps of mixtures of experts: the largest elements of a row, and products of rows with the matrices that they chose.
//
// A row and one of its choices are a pair. `route` puts pairs in order by expert, once for all products with the same
// choices; those lie in that order from then on: `experts_act` converts every row once and puts it where its pairs are,
// `experts` multiplies each expert that was chosen with all of its rows, reading it once, and `combine` brings the
// results back to the rows that chose (or `ungroup` to the pairs). A pair whose id is below 0 chose none, and has no
// place.

#include <cstring>

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

// ---- route: views out (bytes), ids (pairs); ints: experts

struct Route {
    int32_t *used;    // how many experts were chosen; the others have no slot
    int32_t *expert;  // of each slot
    int32_t *start;   // of each slot, and the end: the first of its places
    int32_t *place;   // of each pair, -1 where it chose none
    int32_t *slot;    // of each place

    Route(uint8_t *data, int64_t experts, int64_t pairs)
        : used(reinterpret_cast<int32_t *>(data)), expert(used + 1), start(expert + experts),
          place(start + experts + 1), slot(place + pairs) {}
    int64_t rows(int64_t i) const { return start[i + 1] - start[i]; }
};

int64_t one_unit(const Bound &, const Run &) { return 1; }

// -1 where none was chosen; expert 0 and a fault where there is no such one.
int64_t expert_of(const Bound &bound, const Run &run, int64_t pair) {
    const View &ids = bound.views[1];
    const int32_t id = ids.as<int32_t>()[pair * ids.strides[0]];
    if (id < bound.integer(0)) return std::max(id, -1);
    run.fail(bound);
    return 0;
}

void route(const Bound &bound, const Run &run, int64_t, int64_t) {
    const int64_t pairs = bound.views[1].shape[0], experts = bound.integer(0);
    const Route out(bound.views[0].data, experts, pairs);
    std::fill(out.start, out.start + experts + 1, 0);
    for (int64_t p = 0; p < pairs; p++)
        if (const int64_t e = expert_of(bound, run, p); e >= 0) out.start[e]++;
    int32_t at = 0;
    for (int64_t e = 0; e < experts; e++) {  // start[e] becomes where the next pair of expert e goes
        const int32_t count = out.start[e];
        out.start[e] = at;
        at += count;
    }
    for (int64_t p = 0; p < pairs; p++) {
        const int64_t e = expert_of(bound, run, p);
        out.place[p] = e < 0 ? -1 : out.start[e]++;
    }
    int32_t used = 0, end = 0;
    for (int64_t e = 0; e < experts; e++) {  // start[e] is now the end of expert e
        const int32_t begin = end;
        end = out.start[e];
        if (begin == end) continue;
        out.expert[used] = int32_t(e);
        out.start[used] = begin;
        std::fill(out.slot + begin, out.slot + end, used++);
    }
    out.start[used] = end;
    *out.used = used;
}

// ---- experts_act: views act, a, b, c (rows of floats), route; ints: row kernel or -1, act kind, experts, pairs of a
// row, whether the rows lie in order by expert; floats: eps

enum { act_row, act_kind_of, act_experts, pairs_per_row, in_order };

int64_t rows_per_unit(int64_t rows, int threads) { return rows >= 32 * threads ? 8 : 1; }

int64_t experts_act_units(const Bound &bound, const Run &run) {
    const int64_t rows = bound.views[1].shape[0], grain = rows_per_unit(rows, run.threads);
    return (rows + grain - 1) / grain;
}

size_t row_room(const Step &step) { return size_t(step.operands[1].shape[1].factor * 4 + 63) / 64 * 64; }

size_t experts_act_scratch(const Step &step) {
    return row_room(step) + act_bytes(ActKind(step.ints[act_kind_of]), 1, step.operands[1].shape[1].factor);
}

// Where a slot's activations begin: each slot before it was rounded up to lines and fours of rows at most once.
uint8_t *act_of_slot(uint8_t *act, ActKind kind, const Route &route, int64_t slot, int64_t k) {
    return act + act_bytes(kind, route.start[slot] + 3 * slot, k) + 64 * slot;
}

const float *row_at(const View &view, int64_t r) {
    return view.data ? view.as<float>() + r * view.strides[0] : nullptr;
}

void experts_act(const Bound &bound, const Run &run, int64_t begin, int64_t end) {
    const View &out = bound.views[0], &a = bound.views[1];
    const int64_t rows = a.shape[0], k = a.shape[1], each = bound.integer(pairs_per_row),
                  kernel = bound.integer(act_row);
    const int64_t grain = rows_per_unit(rows, run.threads);
    const Route route(bound.views[4].data, bound.integer(act_experts), rows * each);
    const ActKind kind = ActKind(bound.integer(act_kind_of));
    float *made = reinterpret_cast<float *>(run.scratch);
    uint8_t *alone = run.scratch + row_room(*bound.step);
    const int64_t chosen = route.start[*route.used];
    const auto place_of = [&](int64_t pair) -> int64_t {
        return !bound.integer(in_order) ? route.place[pair] : pair < chosen ? pair : -1;
    };
    for (int64_t r = begin * grain; r < std::min(rows, end * grain); r++) {
        bool wanted = false;
        for (int64_t p = r * each; p < (r + 1) * each; p++) wanted |= place_of(p) >= 0;
        if (!wanted) continue;
        const float *row = row_at(a, r);
        if (kernel >= 0) {
            run.kernels.rows.rows[kernel](row, row_at(bound.views[2], r), row_at(bound.views[3], r), made, k,
                                          bound.number(0));
            row = made;
        }
        if (each > 1) quantize_rows(run.kernels.linear, kind, row, 0, 0, 1, 1, k, alone);
        for (int64_t p = r * each; p < (r + 1) * each; p++) {
            const int64_t place = place_of(p);
            if (place < 0) continue;
            const int64_t slot = route.slot[place];
            const int64_t at = place - route.start[slot], count = route.rows(slot);
            uint8_t *act = act_of_slot(out.data, kind, route, slot, k);
            if (each > 1) place_row(run.kernels.linear, kind, alone, at, count, k, act);
            else quantize_rows(run.kernels.linear, kind, row, 0, at, at + 1, count, k, act);
        }
    }
}

// ---- experts: views y (pairs, n) in order by expert, act, panels, route, bias; ints: type, n, k, experts
//
// A unit is a band of panels of one chosen expert, times all of its rows.

enum { type_of, out_columns, in_columns, expert_count };

constexpr int64_t units_per_thread = 24;  // so that experts of many rows are shared evenly

struct Bands {
    int64_t panels, each, count;  // of one expert: panels, of one band, bands
};

Bands bands(const Bound &bound, const Route &route, int threads) {
    const int64_t n = bound.integer(out_columns), pairs = bound.views[0].shape[0], all = panels(n), used = *route.used;
    const int64_t bytes = int64_t(packed_bytes(Type(bound.integer(type_of)), n, bound.integer(in_columns))) / all;
    int64_t each = std::clamp<int64_t>(unit_bytes((pairs + used - 1) / used) / bytes, 1, all);
    while (each > 1 && (all + each - 1) / each * used < units_per_thread * threads) each = (each + 1) / 2;
    return {all, each, (all + each - 1) / each};
}

Route route_of(const Bound &bound) {
    return {bound.views[3].data, bound.integer(expert_count), bound.views[0].shape[0]};
}

int64_t experts_units(const Bound &bound, const Run &run) {
    if (bound.views[0].shape[0] == 0) return 0;
    const Route route = route_of(bound);
    if (*route.used == 0) return 0;
    return *route.used * bands(bound, route, run.threads).count;
}

void experts(const Bound &bound, const Run &run, int64_t begin, int64_t end) {
    const View &y = bound.views[0], &bias = bound.views[4];
    const Route route = route_of(bound);
    const Bands cut = bands(bound, route, run.threads);
    Packed weight{Type(bound.integer(type_of)), bound.integer(out_columns), bound.integer(in_columns), nullptr, 0};
    weight.bytes = packed_bytes(weight.type, weight.n, weight.k);
    for (int64_t unit = begin; unit < end; unit++) {
        const int64_t slot = unit / cut.count, first = unit % cut.count * cut.each, expert = route.expert[slot];
        weight.data = bound.views[2].data + expert * int64_t(weight.bytes);
        const LinearJob job{&weight, act_of_slot(bound.views[1].data, act_kind(weight.type), route, slot, weight.k),
                            y.as<float>() + route.start[slot] * y.strides[0], y.strides[0],
                            bias.data ? bias.as<float>() + expert * weight.n : nullptr};
        linear_panels(run.kernels.linear, job, route.rows(slot), first, std::min(cut.panels, first + cut.each),
                      run.scratch);
    }
}

// ---- ungroup: views out (pairs, n), y (pairs, n) in order by expert, route; ints: experts

int64_t ungroup_units(const Bound &bound, const Run &) { return bound.views[0].shape[0]; }

void ungroup(const Bound &bound, const Run &, int64_t begin, int64_t end) {
    const View &out = bound.views[0], &y = bound.views[1];
    const Route route(bound.views[2].data, bound.integer(0), out.shape[0]);
    const size_t bytes = size_t(out.shape[1]) * sizeof(float);
    for (int64_t p = begin; p < end; p++) {
        float *row = out.as<float>() + p * out.strides[0];
        if (route.place[p] < 0) std::memset(row, 0, bytes);
        else std::memcpy(row, row_at(y, route.place[p]), bytes);
    }
}

// ---- combine: views out (t, n), y (pairs, n) in order by expert, shares (t, pairs of a row), route; ints: experts

constexpr int64_t combined_columns = 512;  // in a unit

int64_t combine_units(const Bound &bound, const Run &) {
    return bound.views[0].shape[0] * ((bound.views[0].shape[1] + combined_columns - 1) / combined_columns);
}

void combine(const Bound &bound, const Run &, int64_t begin, int64_t end) {
    const View &out = bound.views[0], &y = bound.views[1], &shares = bound.views[2];
    const int64_t parts = (out.shape[1] + combined_columns - 1) / combined_columns, each = shares.shape[1];
    const Route route(bound.views[3].data, bound.integer(0), y.shape[0]);
    for (int64_t unit = begin; unit < end; unit++) {
        const int64_t t = unit / parts, first = unit % parts * combined_columns;
        const int64_t count = std::min(combined_columns, out.shape[1] - first);
        float *result = out.as<float>() + t * out.strides[0] + first;
        if (each == 1 && route.place[t] >= 0) {
            const float share = shares.as<float>()[t * shares.strides[0]], *row = row_at(y, route.place[t]) + first;
            for (int64_t i = 0; i < count; i++) result[i] = share * row[i];
            continue;
        }
        double sum[combined_columns] = {};  // as `sum` adds, for who could not be combined
        for (int64_t j = 0; j < each; j++) {
            if (route.place[t * each + j] < 0) continue;
            const float share = shares.as<float>()[t * shares.strides[0] + j * shares.strides[1]];
            const float *row = row_at(y, route.place[t * each + j]) + first;
            for (int64_t i = 0; i < count; i++) sum[i] += share * row[i];
        }
        for (int64_t i = 0; i < count; i++) result[i] = float(sum[i]);
    }
}

}  // namespace

const std::vector<Kernel> expert_kernels = {
    {"top_k", top_k_units, top_k},
    {"route", one_unit, route},
    {"experts_act", experts_act_units, experts_act, nullptr, experts_act_scratch},
    {"experts", experts_units, experts, nullptr, [](const Step &) { return linear_scratch(); }},
    {"ungroup", ungroup_units, ungroup},
    {"combine", combine_units, combine},
};

}  // namespace puna
