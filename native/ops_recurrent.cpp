// Steps with memory per sequence. A unit is a head, or some channels, of one sequence: its tokens, one after another.

#include <algorithm>
#include <cstring>

#include "program.h"

namespace puna {

namespace {

// ---- where a sequence's rows and memory are

struct Part {
    int64_t first = 0, tokens = 0;
    float *before = nullptr, *after = nullptr;  // memory; null before: zeros
};

int32_t at(const View &view, int64_t i) { return view.as<int32_t>()[i * view.strides[0]]; }

// Whether every row names a sequence, and rows of one follow each other; asked once a run.
bool is_ordered(const View &sequence, int64_t count) {
    for (int64_t t = 0; t < sequence.shape[0]; t++) {
        if (at(sequence, t) < (t ? at(sequence, t - 1) : 0) || at(sequence, t) >= count) return false;
    }
    return true;
}

int64_t first_row(const View &sequence, int64_t s) {  // that belongs to s or to a later one
    int64_t low = 0, high = sequence.shape[0];
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        at(sequence, middle) < s ? low = middle + 1 : high = middle;
    }
    return low;
}

int64_t row_count(const View &sequence, int64_t s) { return first_row(sequence, s + 1) - first_row(sequence, s); }

// Whether another sequence leaves its memory where s reads or writes: what comes out would depend on who is first.
bool is_shared(const View *views, int64_t s, int64_t before, int64_t after) {
    for (int64_t other = 0; other < views[2].shape[0]; other++) {
        const int64_t to = at(views[2], other);
        if (other != s && (to == before || to == after) && row_count(views[0], other) > 0) return true;
    }
    return false;
}

// Of sequence s; fails where a slot lies outside of the state, or is another's. `views`: sequence,
// state_from, state_to.
Part part_of(const Bound &bound, const Run &run, const View &state, const View *views, int64_t s) {
    Part part;
    part.first = first_row(views[0], s);
    part.tokens = row_count(views[0], s);
    const int64_t before = at(views[1], s), after = at(views[2], s), slots = state.shape[0];
    if (part.tokens > 0 && (before >= slots || after < 0 || after >= slots || is_shared(views, s, before, after))) {
        run.fail(bound);
        part.tokens = 0;
    }
    if (part.tokens <= 0) return {};
    part.before = before < 0 ? nullptr : state.as<float>() + before * state.strides[0];
    part.after = state.as<float>() + after * state.strides[0];
    return part;
}

// ---- causal_conv1d: views out (t, d), state (slots, length - 1, d), x, w (length, d), sequence, state_from, state_to

constexpr int64_t grain = 256;  // channels of a unit

int64_t convolution_units(const Bound &bound, const Run &) {
    return bound.views[5].shape[0] * ((bound.views[0].shape[1] + grain - 1) / grain);
}

// What a sequence leaves: the latest of the rows before and its own. In place each row comes from behind its new place.
void shift(const Part &part, const View &state, const View &x, int64_t channel, int64_t n) {
    const int64_t length = state.shape[1], step = state.strides[1];
    for (int64_t i = 0; i < length; i++) {
        const int64_t place = part.tokens + i;
        float *row = part.after + i * step + channel;
        if (place >= length) {
            std::memcpy(row, x.as<float>() + (part.first + place - length) * x.strides[0] + channel, size_t(n) * 4);
        } else if (part.before) {
            std::memmove(row, part.before + place * step + channel, size_t(n) * 4);
        } else {
            std::fill(row, row + n, 0.0f);
        }
    }
}

void causal_conv1d(const Bound &bound, const Run &run, int64_t begin, int64_t end) {
    const View &out = bound.views[0], &state = bound.views[1], &x = bound.views[2], &w = bound.views[3];
    const int64_t groups = (out.shape[1] + grain - 1) / grain;
    if (begin == 0 && !is_ordered(bound.views[4], bound.views[5].shape[0])) run.fail(bound);
    for (int64_t unit = begin; unit < end; unit++) {
        const int64_t channel = unit % groups * grain, n = std::min(grain, out.shape[1] - channel);
        const Part part = part_of(bound, run, state, &bound.views[4], unit / groups);
        if (!part.tokens) continue;
        const Channels channels = {
            x.as<float>() + part.first * x.strides[0] + channel, w.as<float>() + channel,
            part.before ? part.before + channel : nullptr, out.as<float>() + part.first * out.strides[0] + channel,
            x.strides[0], w.strides[0], state.strides[1], out.strides[0], part.tokens, w.shape[0], n,
        };
        run.kernels.recurrent.convolve(channels);
        shift(part, state, x, channel, n);
    }
}

// ---- recurrence: views out (t, h, values), state (slots, h, keys, values), r, w, k, v, a, b, rates, sequence,
// state_from, state_to

int64_t recurrence_units(const Bound &bound, const Run &) { return bound.views[10].shape[0] * bound.views[0].shape[1]; }

const float *rows_of(const View &view, int64_t t, int64_t head) {
    return view.data ? view.as<float>() + t * view.strides[0] + head * view.strides[1] : nullptr;
}

Head head_of(const Bound &bound, const Part &part, int64_t head) {
    const View &out = bound.views[0], &state = bound.views[1], &rates = bound.views[8];
    const View *given = &bound.views[2];  // r, w, k, v, a, b
    const auto rows = [&](int i) { return rows_of(given[i], part.first, head); };
    return {
        rows(0), rows(1), rows(2), rows(3), rows(4), rows(5),
        rates.data ? rates.as<float>() + head * rates.strides[0] : nullptr,
        out.as<float>() + part.first * out.strides[0] + head * out.strides[1],
        given[0].strides[0], given[1].strides[0], given[2].strides[0], given[3].strides[0], given[4].strides[0],
        given[5].strides[0], out.strides[0], given[1].shape[2], rates.data ? rates.shape[1] : 0,
        part.tokens, state.shape[2], state.shape[3],
    };
}

void recurrence(const Bound &bound, const Run &run, int64_t begin, int64_t end) {
    const View &out = bound.views[0], &state = bound.views[1];
    const int64_t heads = out.shape[1], size = state.shape[2] * state.shape[3];
    if (begin == 0 && !is_ordered(bound.views[9], bound.views[10].shape[0])) run.fail(bound);
    for (int64_t unit = begin; unit < end; unit++) {
        const int64_t head = unit % heads;
        const Part part = part_of(bound, run, state, &bound.views[9], unit / heads);
        if (!part.tokens) continue;
        float *memory = part.after + head * state.strides[1];
        if (!part.before) {
            std::fill(memory, memory + size, 0.0f);
        } else if (part.before != part.after) {
            std::memcpy(memory, part.before + head * state.strides[1], size_t(size) * 4);
        }
        run.kernels.recurrent.recur(head_of(bound, part, head), memory, reinterpret_cast<float *>(run.scratch));
    }
}

size_t recurrence_scratch(const Step &step) { return size_t(step.operands[1].shape[2].factor) * sizeof(float); }

}  // namespace

const std::vector<Kernel> recurrent_step_kernels = {
    {"causal_conv1d", convolution_units, causal_conv1d},
    {"recurrence", recurrence_units, recurrence, nullptr, recurrence_scratch},
};

}  // namespace puna
