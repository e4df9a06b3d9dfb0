// Steps on rows: norms, activations, rotation by position, and what states keep.

#include <cmath>
#include <cstring>

#include "kernels/q8_pages.h"
#include "program.h"

namespace puna {

int64_t kept_bytes(Kept kept, int64_t n) {
    switch (kept) {
    case Kept::f32: return n * 4;
    case Kept::q8_0: return n / 32 * 34;
    default: return n * 2;
    }
}

namespace {

constexpr int64_t unit_elements = 8192;

int64_t grain_of(const View &view, const Run &run) {  // rows of the first axis in a unit
    const int64_t row = std::max<int64_t>(1, view.shape[1] * view.shape[2]);
    const int64_t fair = (view.shape[0] + run.threads - 1) / run.threads;
    return std::max<int64_t>(1, std::min(fair, unit_elements / row));
}

int64_t units_of(const View &view, const Run &run) {
    const int64_t grain = grain_of(view, run);
    return (view.shape[0] + grain - 1) / grain;
}

float *row_of(const View &view, int64_t i, int64_t j) {
    return view.data ? view.as<float>() + i * view.strides[0] + j * view.strides[1] : nullptr;
}

// ---- row: views out, a, b, c as (rows, parts, n), strides 0 where a weight is shared; ints: row kernel; floats: eps

int64_t row_units(const Bound &bound, const Run &run) { return units_of(bound.views[1], run); }

void row(const Bound &bound, const Run &run, int64_t begin, int64_t end) {
    const View &out = bound.views[0], &a = bound.views[1];
    const int64_t grain = grain_of(a, run), last = std::min(a.shape[0], end * grain);
    const RowFunction function = run.kernels.rows.rows[bound.integer(0)];
    for (int64_t i = begin * grain; i < last; i++) {
        for (int64_t j = 0; j < a.shape[1]; j++) {
            function(row_of(a, i, j), row_of(bound.views[2], i, j), row_of(bound.views[3], i, j), row_of(out, i, j),
                     a.shape[2], bound.number(0));
        }
    }
}

// ---- rope_table: views out (t, 2, turned), positions (t), frequencies (turned / 2); ints: pairs; floats: scale

int64_t table_units(const Bound &bound, const Run &) { return bound.views[0].shape[0]; }

void rope_table(const Bound &bound, const Run &, int64_t begin, int64_t end) {
    const View &out = bound.views[0], &positions = bound.views[1], &frequencies = bound.views[2];
    const int64_t turned = out.shape[2], half = turned / 2;
    const bool pairs = bound.integer(0) != 0;
    const float scale = bound.number(0);
    for (int64_t i = begin; i < end; i++) {
        const float position = float(positions.as<int32_t>()[i * positions.strides[0]]);
        float *cos = row_of(out, i, 0), *sin = row_of(out, i, 1);
        for (int64_t j = 0; j < half; j++) {
            const float angle = position * frequencies.as<float>()[j * frequencies.strides[0]];
            const int64_t a = pairs ? 2 * j : j, b = pairs ? 2 * j + 1 : j + half;
            cos[a] = cos[b] = std::cos(angle) * scale;
            sin[b] = std::sin(angle) * scale;
            sin[a] = -sin[b];
        }
    }
}

// ---- rope: views out, x as (t, heads, n), table (t, 2, turned); ints: pairs

int64_t rope_units(const Bound &bound, const Run &run) { return units_of(bound.views[1], run); }

void rope(const Bound &bound, const Run &run, int64_t begin, int64_t end) {
    const View &out = bound.views[0], &x = bound.views[1], &table = bound.views[2];
    const int64_t grain = grain_of(x, run), last = std::min(x.shape[0], end * grain);
    for (int64_t i = begin * grain; i < last; i++) {
        const float *cos = row_of(table, i, 0), *sin = row_of(table, i, 1);
        for (int64_t j = 0; j < x.shape[1]; j++) {
            run.kernels.rows.rotate(row_of(x, i, j), cos, sin, row_of(out, i, j), table.shape[2], x.shape[2],
                                    bound.integer(0) != 0);
        }
    }
}

// ---- write: views state (bytes), slots (t), x (t, heads, n), table or none; ints: pairs, kept, slots in all, order

enum { write_pairs, write_kept, write_capacity, write_order };

template <int size> void spread(const uint8_t *from, int64_t n, uint8_t *to) {  // elements of one slot of a turned page
    for (int64_t i = 0; i < n; i++) std::memcpy(to + i * size * page_slots, from + i * size, size);
}

// One slot's row, already in the kept type, to its place in a page.
void place(Kept kept, Order order, const uint8_t *row, int64_t n, uint8_t *page, int64_t slot) {
    if (kept == Kept::q8_0)
        return order == Order::turned ? place_q8_key(row, n, page, slot) : place_q8_value(row, n, page, slot);
    kept == Kept::f32 ? spread<4>(row, n, page + 4 * slot) : spread<2>(row, n, page + 2 * slot);
}

void keep(const Run &run, Kept kept, Order order, const float *x, int64_t n, uint8_t *state, int64_t slot, int64_t head,
          int64_t heads, int64_t capacity) {
    const int64_t part = kept_bytes(kept, n);
    if (order == Order::slots) return run.kernels.rows.keep(kept, x, state + (slot * heads + head) * part, n);
    uint8_t *page = state + (head * (capacity / page_slots) + slot / page_slots) * page_slots * part;
    if (order == Order::pages && kept != Kept::q8_0)
        return run.kernels.rows.keep(kept, x, page + slot % page_slots * part, n);
    uint8_t *row = run.scratch + n * int64_t(sizeof(float));
    run.kernels.rows.keep(kept, x, row, n);
    place(kept, order, row, n, page, slot % page_slots);
}

void write(const Bound &bound, const Run &run, int64_t begin, int64_t end) {
    const View &slots = bound.views[1], &x = bound.views[2], &table = bound.views[3];
    const Kept kept = Kept(bound.integer(write_kept));
    const int64_t grain = grain_of(x, run), last = std::min(x.shape[0], end * grain);
    const Order order = Order(bound.integer(write_order));
    const int64_t capacity = bound.integer(write_capacity);
    float *turned = reinterpret_cast<float *>(run.scratch);
    for (int64_t i = begin * grain; i < last; i++) {
        const int64_t slot = slots.as<int32_t>()[i * slots.strides[0]];
        if (slot < 0) continue;
        if (slot >= capacity) {
            run.fail(bound);
            continue;
        }
        for (int64_t j = 0; j < x.shape[1]; j++) {
            const float *from = row_of(x, i, j);
            if (table.data) {
                run.kernels.rows.rotate(from, row_of(table, i, 0), row_of(table, i, 1), turned, table.shape[2],
                                        x.shape[2], bound.integer(write_pairs) != 0);
                from = turned;
            }
            keep(run, kept, order, from, x.shape[2], bound.views[0].data, slot, j, x.shape[1], capacity);
        }
    }
}

int64_t write_units(const Bound &bound, const Run &run) { return units_of(bound.views[2], run); }

size_t write_scratch(const Step &step) { return 2 * size_t(step.operands[2].shape[2].factor) * sizeof(float); }

// ---- recall: views out (rows, n), state (bytes); ints: kept

int64_t recall_units(const Bound &bound, const Run &) { return bound.views[0].shape[0]; }

void recall(const Bound &bound, const Run &run, int64_t begin, int64_t end) {
    const View &out = bound.views[0];
    const Kept kept = Kept(bound.integer(0));
    const int64_t n = out.shape[1], row = kept_bytes(kept, n);
    run.kernels.rows.recall(kept, bound.views[1].data + begin * row, out.as<float>() + begin * n, (end - begin) * n);
}

}  // namespace

const std::vector<Kernel> row_step_kernels = {
    {"row", row_units, row},
    {"rope_table", table_units, rope_table},
    {"rope", rope_units, rope},
    {"write", write_units, write, nullptr, write_scratch},
    {"recall", recall_units, recall},
};

}  // namespace puna
