// The convolution over a sequence's latest rows, kept in slots as keys and values are.

#include <algorithm>

#include "program.h"

namespace puna {

namespace {

// ---- causal_conv1d: views out (t, d), state (capacity, d), w (d, length), positions, sequence, table; ints: block size

void causal_conv1d(const Bound &bound, const Run &run, int64_t begin, int64_t end) {
    const View &out = bound.views[0], &state = bound.views[1], &w = bound.views[2], &table = bound.views[5];
    const int64_t d = out.shape[1], length = w.shape[1], size = bound.integer(0);
    for (int64_t t = begin; t < end; t++) {
        const int64_t position = bound.views[3].as<int32_t>()[t * bound.views[3].strides[0]];
        const int64_t sequence = bound.views[4].as<int32_t>()[t * bound.views[4].strides[0]];
        float *y = out.as<float>() + t * out.strides[0];
        std::fill(y, y + d, 0.0f);
        if (sequence < 0 || sequence >= table.shape[0] || position < 0 || position / size >= table.shape[1]) {
            run.fail(bound);
            continue;
        }
        for (int64_t j = std::max<int64_t>(0, length - 1 - position); j < length; j++) {
            const int64_t place = position - (length - 1 - j);
            const int64_t block = table.as<int32_t>()[sequence * table.strides[0] + place / size * table.strides[1]];
            const int64_t slot = block * size + place % size;
            if (slot < 0 || slot >= state.shape[0]) {
                run.fail(bound);
                break;
            }
            const float *row = state.as<float>() + slot * state.strides[0], *column = w.as<float>() + j * w.strides[1];
            for (int64_t i = 0; i < d; i++) y[i] += row[i] * column[i * w.strides[0]];
        }
    }
}

int64_t causal_conv1d_units(const Bound &bound, const Run &) { return bound.views[0].shape[0]; }

}  // namespace

const std::vector<Kernel> convolution_kernels = {{"causal_conv1d", causal_conv1d_units, causal_conv1d}};

}  // namespace puna
