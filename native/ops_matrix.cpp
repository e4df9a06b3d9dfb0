// Steps with matrices of weights: activation rows made ready (and made, by a row kernel), products, row lookup.

#include "program.h"

namespace puna {

namespace {

// Rows of threads' units: whole tiles of activations where there are many, single rows where there are few.
int64_t rows_per_unit(int64_t rows, int threads) {
    if (rows >= 32 * threads) return 16;
    return rows >= 8 * threads ? 4 : 1;
}

// ---- act: views act, a, b, c (rows of floats, (t, n)); ints: row kernel or -1, act kind; floats: eps

enum { act_row, act_kind_of };
constexpr int64_t made_rows = 4;  // by a row kernel before they are converted: a tile's, whose lines are written once

int64_t act_units(const Bound &bound, const Run &run) {
    const int64_t rows = bound.views[1].shape[0], grain = rows_per_unit(rows, run.threads);
    return (rows + grain - 1) / grain;
}

const float *row_of(const View &view, int64_t row) {
    return view.data ? view.as<float>() + row * view.strides[0] : nullptr;
}

void act(const Bound &bound, const Run &run, int64_t begin, int64_t end) {
    const View &out = bound.views[0], &a = bound.views[1];
    const int64_t t = a.shape[0], n = a.shape[1], grain = rows_per_unit(t, run.threads);
    const int64_t first = begin * grain, last = std::min(t, end * grain), row = bound.integer(act_row);
    const ActKind kind = ActKind(bound.integer(act_kind_of));
    if (row < 0)
        return quantize_rows(run.kernels.linear, kind, row_of(a, first), a.strides[0], first, last, t, n, out.data);
    float *made = reinterpret_cast<float *>(run.scratch);
    for (int64_t r = first; r < last; r += made_rows) {
        const int64_t some = std::min(made_rows, last - r);
        for (int64_t i = r; i < r + some; i++) {
            run.kernels.rows.rows[row](row_of(a, i), row_of(bound.views[2], i), row_of(bound.views[3], i),
                                       made + (i - r) * n, n, bound.number(0));
        }
        quantize_rows(run.kernels.linear, kind, made, n, r, r + some, t, n, out.data);
    }
}

size_t act_scratch(const Step &step) { return size_t(made_rows * step.operands[1].shape[1].factor) * sizeof(float); }

// ---- linear: views y (t, n), act, weight, bias; ints: type, n, k, add, bytes of the packed weight

enum { weight_type, weight_n, weight_k, weight_add, weight_bytes };

Packed packed(const Bound &bound, const View &view) {
    return {Type(bound.integer(weight_type)), bound.integer(weight_n), bound.integer(weight_k), view.data,
            size_t(bound.integer(weight_bytes))};
}

int64_t linear_step_units(const Bound &bound, const Run &run) {
    const int64_t t = bound.views[0].shape[0];
    return t == 0 ? 0 : linear_units(run.kernels.linear, packed(bound, bound.views[2]), t, run.threads);
}

void linear_run(const Bound &bound, const Run &run, int64_t begin, int64_t end) {
    const View &y = bound.views[0], &bias = bound.views[3];
    const Packed weight = packed(bound, bound.views[2]);
    const bool add = bound.integer(weight_add) != 0;
    const LinearJob job{&weight, bound.views[1].data, y.as<float>(), y.strides[0], bias.as<float>(), add};
    linear(run.kernels.linear, job, y.shape[0], run.threads, begin, end, run.scratch);
}

size_t product_scratch(const Step &) { return linear_scratch(); }

// ---- embedding: views out (count, k), ids (count), weight; ints: as linear, `add` says whether the weight is packed

int64_t embedding_units(const Bound &bound, const Run &) { return bound.views[0].shape[0]; }

void embedding(const Bound &bound, const Run &run, int64_t begin, int64_t end) {
    const View &out = bound.views[0], &ids = bound.views[1], &w = bound.views[2];
    const Packed weight = packed(bound, w);
    for (int64_t i = begin; i < end; i++) {
        int32_t id = ids.as<int32_t>()[i * ids.strides[0]];
        if (id < 0 || id >= weight.n) {
            run.fail(bound);
            id = 0;
        }
        float *row = out.as<float>() + i * out.strides[0];
        if (bound.integer(weight_add)) {
            embed_rows(weight, &id, 1, row, weight.k);
        } else {
            embed_rows(weight.type, w.data, weight.k, &id, 1, row, weight.k);
        }
    }
}

}  // namespace

const std::vector<Kernel> matrix_kernels = {
    {"act", act_units, act, nullptr, act_scratch},
    {"linear", linear_step_units, linear_run, nullptr, product_scratch},
    {"embedding", embedding_units, embedding},
};

}  // namespace puna
