// The attention steps: which spans there are (attention_plan), and their attention. Kernels: kernels/attention.h.

#include "attention.h"

#include <algorithm>

#include "program.h"

namespace puna {

int64_t attention_padded(int64_t size) { return (size + 15) / 16 * 16; }

int64_t attention_scratch(int64_t share, int64_t size, int64_t value_size) {
    const int64_t rows = std::max(share, attention_rows), depth = attention_padded(size);
    const int64_t width = attention_padded(value_size);
    const int64_t keys = attention_tile * (2 * depth + width), sums = 2 * attention_partial(rows, value_size);
    const int64_t shorts = rows * ((depth + attention_tile) / 2 + 2);
    return (rows * (depth + attention_chunk + 2) + shorts + keys + sums + 16 * 16) * int64_t(sizeof(float));
}

int64_t attention_plan_bytes(int64_t t) { return 64 + (t + attention_slots) * int64_t(sizeof(Span)); }

int64_t attention_partial_bytes(int64_t groups, int64_t share, int64_t value_size) {
    return attention_slots * groups * attention_partial(share, value_size) * int64_t(sizeof(float));
}

namespace {

// ---- attention_plan: views plan (bytes), positions (t), sequence (t), lengths (s)
// ints: causal, window, share, positions that a table has room for. The plan: the number of spans in the first 64
// bytes, then the spans.

enum { plan_causal, plan_window, plan_share, plan_room };
constexpr int64_t plan_header = 64;

struct Reader {
    const Bound &bound;
    int64_t at(int view, int64_t i) const {
        return bound.views[size_t(view)].as<int32_t>()[i * bound.views[size_t(view)].strides[0]];
    }
};

// Positions that the tokens [first, first + n) of one sequence read.
Span span_of(const Bound &bound, int64_t first, int64_t n, int64_t sequence, int64_t length) {
    const Reader read{bound};
    const int64_t window = bound.integer(plan_window);
    int64_t low = length, high = 0;
    for (int64_t i = first; i < first + n; i++) {
        const int64_t position = read.at(1, i);
        const int64_t end = bound.integer(plan_causal) ? std::min(length, position + 1) : length;
        high = std::max(high, read_end(position, window, end));
        low = std::min(low, first_read(position, window));
    }
    low = std::min(low, high);
    const int64_t chunks = high == low ? 0 : (high - 1) / attention_chunk - low / attention_chunk + 1;
    return {int32_t(first), int32_t(n), int32_t(sequence), int32_t(low), int32_t(high), -1, int32_t(chunks), 0};
}

struct Spans {
    Span *spans;
    int64_t count = 0;
    int32_t slots = 0;

    void add(Span span, int64_t t) {
        const int32_t wanted = span.chunks * span.tokens;
        if (span.chunks < 2 || t > attention_cut_tokens || slots + wanted > attention_slots) {
            spans[count++] = span;
            return;
        }
        span.slot = slots;
        for (span.chunk = 0; span.chunk < span.chunks; span.chunk++) spans[count++] = span;
        slots += wanted;
    }
};

int64_t one_unit(const Bound &, const Run &) { return 1; }

void attention_plan(const Bound &bound, const Run &run, int64_t, int64_t) {
    const Reader read{bound};
    const int64_t t = bound.views[1].shape[0], sequences = bound.views[3].shape[0];
    const int64_t most = std::max<int64_t>(1, attention_rows / bound.integer(plan_share));
    Spans spans{reinterpret_cast<Span *>(bound.views[0].data + plan_header)};
    for (int64_t first = 0; first < t;) {
        int64_t sequence = read.at(2, first), end = first + 1;
        while (end < t && read.at(2, end) == sequence) end++;
        if (sequence < 0 || sequence >= sequences) {
            run.fail(bound);
            sequence = 0;
        }
        int64_t length = read.at(3, sequence);
        if (length < 0 || length > bound.integer(plan_room)) {
            run.fail(bound);
            length = 0;
        }
        for (; first < end;) {
            int64_t n = std::min(most, end - first);
            spans.add(span_of(bound, first, n, sequence, length), t);
            first += n;
        }
    }
    *bound.views[0].as<int64_t>() = spans.count;
}

// ---- attention: views out, q, k, v (bytes), positions, table, lengths, sinks, bias, plan, partial, done
// ints: causal, window, block_size, groups, size, value_size, of k and v how they are kept and in which order, capacity
// floats: scale, softcap

enum { causal, window, block_size, groups, size, value_size, k_kept, v_kept, k_order, v_order, capacity };
enum {
    view_out, view_q, view_k, view_v, view_positions, view_table, view_lengths, view_sinks, view_bias, view_plan,
    view_partial, view_done
};

int64_t attention_units(const Bound &bound, const Run &) {
    return *bound.views[view_plan].as<int64_t>() * bound.integer(groups);
}

AttentionArgs arguments(const Bound &bound, const Run &run) {
    const View &q = bound.views[view_q], &table = bound.views[view_table];
    AttentionArgs args{};
    args.q = q.as<float>(), args.q_token = q.strides[0], args.q_head = q.strides[1], args.heads = q.shape[1];
    args.k = bound.views[view_k].data, args.v = bound.views[view_v].data;
    args.k_kept = Kept(bound.integer(k_kept)), args.v_kept = Kept(bound.integer(v_kept));
    args.k_order = Order(bound.integer(k_order)), args.v_order = Order(bound.integer(v_order));
    args.capacity = bound.integer(capacity), args.groups = bound.integer(groups);
    args.size = bound.integer(size), args.value_size = bound.integer(value_size);
    args.positions = bound.views[view_positions].as<int32_t>();
    args.position_stride = bound.views[view_positions].strides[0];
    args.lengths = bound.views[view_lengths].as<int32_t>(), args.length_stride = bound.views[view_lengths].strides[0];
    args.table = table.as<int32_t>(), args.table_row = table.strides[0], args.table_column = table.strides[1];
    args.table_columns = table.shape[1], args.block_size = bound.integer(block_size);
    args.window = bound.integer(window), args.causal = bound.integer(causal) != 0;
    args.scale = bound.number(0), args.softcap = bound.number(1);
    args.sinks = bound.views[view_sinks].as<float>(), args.out = bound.views[view_out].as<float>();
    args.bias = bound.views[view_bias].as<float>(), args.reach = args.bias ? bound.views[view_bias].shape[1] / 2 : 0;
    args.partial = bound.views[view_partial].as<float>();
    args.done = bound.views[view_done].as<std::atomic<int32_t>>();
    args.fault = run.fault, args.fault_value = bound.index + 1;
    return args;
}

void attention(const Bound &bound, const Run &run, int64_t begin, int64_t end) {
    const AttentionArgs args = arguments(bound, run);
    const Span *spans = reinterpret_cast<const Span *>(bound.views[view_plan].data + plan_header);
    const int64_t count = *bound.views[view_plan].as<int64_t>();
    for (int64_t unit = begin; unit < end; unit++) {  // a group's pages are neighbours
        run.kernels.attention.attend(args, spans[unit % count], unit / count, run.scratch);
    }
}

size_t attention_step_scratch(const Step &step) {
    const int64_t heads = step.operands[view_q].shape[1].factor;
    return size_t(attention_scratch(heads / step.ints[groups], step.ints[size], step.ints[value_size]));
}

}  // namespace

const std::vector<Kernel> attention_step_kernels = {
    {"attention_plan", one_unit, attention_plan},
    {"attention", attention_units, attention, nullptr, attention_step_scratch},
};

}  // namespace puna
