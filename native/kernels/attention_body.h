// The text of the attention kernels (attention.h), compiled once for each instruction set.

#include <algorithm>

#include "kernels/attention.h"
#include "kernels/kept_body.h"
#include "kernels/matrix_body.h"
#include "kernels/vec.h"

namespace puna::PUNA_ISA {
namespace {

constexpr int64_t tile = attention_tile;

struct Scratch {  // rows: tokens of the span times heads of the group
    int64_t depth, width;       // size and value_size, padded
    float *q, *o, *scores;      // (rows, depth) (rows, width) (rows, tile)
    float *most, *total;        // (rows): the largest score so far, the sum of exponentials
    float *keys, *turned, *values;  // (tile, depth) (depth, tile) (tile, width)
    float *whole;               // (rows of one token, width + 2): chunks combined so far
    int32_t *low, *high;        // (rows): positions that a row reads
};

Scratch arrange(const AttentionArgs &args, int64_t rows, int64_t share, uint8_t *memory) {
    Scratch s{};
    s.depth = attention_padded(args.size), s.width = attention_padded(args.value_size);
    const auto take = [&](int64_t n) {
        float *at = reinterpret_cast<float *>(memory);
        memory += (n + 15) / 16 * 64;
        return at;
    };
    s.q = take(rows * s.depth), s.o = take(rows * s.width), s.scores = take(rows * tile);
    s.most = take(rows), s.total = take(rows);
    s.keys = take(tile * std::max(s.depth, s.width)), s.turned = take(tile * s.depth), s.values = take(tile * s.width);
    s.whole = take(share * (s.width + 2));
    s.low = reinterpret_cast<int32_t *>(take(rows)), s.high = reinterpret_cast<int32_t *>(take(rows));
    return s;
}

void read_queries(const AttentionArgs &args, const Span &span, int64_t group, int64_t share, const Scratch &s) {
    for (int64_t i = 0; i < span.tokens; i++) {
        const int64_t token = span.token + i, position = args.positions[token * args.position_stride];
        int64_t high = args.lengths[span.sequence * args.length_stride];
        if (args.causal) high = std::min(high, position + 1);
        if (args.window) high = std::min(high, position + args.window);
        const int64_t low = args.window ? std::max<int64_t>(0, position - args.window + 1) : 0;
        for (int64_t h = 0; h < share; h++) {
            const int64_t row = i * share + h;
            const float *from = args.q + token * args.q_token + (group * share + h) * args.q_head;
            float *to = s.q + row * s.depth;
            for (int64_t d = 0; d < args.size; d++) to[d] = from[d] * args.scale;
            for (int64_t d = args.size; d < s.depth; d++) to[d] = 0;
            s.low[row] = int32_t(low), s.high[row] = int32_t(high);
        }
    }
}

int64_t slot_of(const AttentionArgs &args, const Span &span, int64_t position) {
    const int64_t block = position / args.block_size;
    int64_t slot = -1;
    if (block < args.table_columns) {
        slot = args.table[span.sequence * args.table_row + block * args.table_column] * args.block_size + position % args.block_size;
    }
    if (slot >= 0 && slot < args.capacity) return slot;
    args.fault->store(args.fault_value, std::memory_order_relaxed);
    return 0;
}

inline void fetch_ahead(const uint8_t *row, int64_t bytes) {
#if defined(__GNUC__)
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(row + i, 0, 2);
#else
    (void)row, (void)bytes;
#endif
}

// n rows as floats; those `ahead` bytes further on are asked for.
void read_rows(Kept kept, const uint8_t *from, int64_t row, int64_t ahead, int64_t n, float *to, int64_t to_row, int64_t size) {
    const int64_t part = kept_bytes(kept, size);
    if (kept != Kept::f16 || size % W != 0) {
        for (int64_t i = 0; i < n; i++, from += row, to += to_row) {
            fetch_ahead(from + ahead, part);
            recall_row(kept, from, to, size);
        }
        return;
    }
    for (int64_t i = 0; i < n; i++, from += row, to += to_row) {
        fetch_ahead(from + ahead, part);
        for (int64_t d = 0; d < size; d += W) store(to + d, load_half(reinterpret_cast<const uint16_t *>(from) + d));
    }
}

struct Part {  // of the states: keys, or values
    const uint8_t *from;
    Kept kept;
    int64_t size;
};

// Positions [at, at + n) of one group as floats; within a block of the table they are neighbours. Its rows lie apart,
// which the processor does not foresee: those of the next tile are asked for now.
void read_tile(const AttentionArgs &args, const Span &span, const Part &part, int64_t group, int64_t at, int64_t n, int64_t end,
               float *to, int64_t to_row) {
    const int64_t bytes = kept_bytes(part.kept, part.size), row = args.groups * bytes;
    for (int64_t i = 0; i < n;) {
        const int64_t position = at + i, slot = slot_of(args, span, position);
        const int64_t run = std::min(n - i, args.block_size - position % args.block_size);
        const int64_t later = position + tile < end ? slot_of(args, span, position + tile) : slot;
        read_rows(part.kept, part.from + slot * row + group * bytes, row, (later - slot) * row, run, to + i * to_row, to_row, part.size);
        i += run;
    }
}

void clear_padding(const AttentionArgs &args, const Scratch &s) {
    for (int64_t i = 0; i < tile; i++) {
        for (int64_t d = args.size; d < s.depth; d++) s.keys[i * s.depth + d] = 0;
        for (int64_t d = args.value_size; d < s.width; d++) s.values[i * s.width + d] = 0;
    }
}

// One row's scores of a tile, masked, become weights; what the row has summed up is scaled to the new maximum.
void weigh(const AttentionArgs &args, int64_t row, int64_t begin, int64_t n, const Scratch &s) {
    float *scores = s.scores + row * tile;
    if (args.softcap != 0) {
        for (int64_t j = 0; j < tile; j += W) store(scores + j, tanh(load(scores + j) / set(args.softcap)) * set(args.softcap));
    }
    const int64_t from = std::clamp<int64_t>(s.low[row] - begin, 0, tile), to = std::clamp<int64_t>(s.high[row] - begin, 0, n);
    std::fill(scores, scores + from, -INFINITY);
    std::fill(scores + std::max(from, to), scores + tile, -INFINITY);
    V tops = load(scores);
    for (int64_t j = W; j < tile; j += W) tops = vmax(load(scores + j), tops);
    const float top = std::max(s.most[row], largest(tops));
    if (top == -INFINITY) {
        std::fill(scores, scores + tile, 0.0f);
        return;
    }
    if (top != s.most[row] && s.most[row] != -INFINITY) {
        const float factor = std::exp(s.most[row] - top);
        s.total[row] *= factor;
        float *o = s.o + row * s.width;
        for (int64_t e = 0; e < s.width; e += W) store(o + e, load(o + e) * set(factor));
    }
    s.most[row] = top;
    V sums = set(0);
    for (int64_t j = 0; j < tile; j += W) {
        const V weight = exp(load(scores + j) - set(top));
        sums = sums + weight;
        store(scores + j, weight);
    }
    s.total[row] += sum(sums);
}

void read_range(const AttentionArgs &args, const Span &span, int64_t group, int64_t rows, int64_t begin, int64_t end,
                const Scratch &s) {
    const Part keys{args.k, args.k_kept, args.size}, values{args.v, args.v_kept, args.value_size};
    std::fill(s.o, s.o + rows * s.width, 0.0f);
    std::fill(s.most, s.most + rows, -INFINITY);
    std::fill(s.total, s.total + rows, 0.0f);
    for (int64_t at = begin; at < end; at += tile) {
        const int64_t n = std::min(tile, end - at);
        read_tile(args, span, keys, group, at, n, end, s.keys, s.depth);
        if (span.tokens == 1) {
            dot_rows(s.q, s.depth, rows, s.keys, s.depth, (n + W - 1) / W * W, s.scores, tile, s.depth);
        } else {
            transpose(s.keys, s.depth, tile, s.depth, s.turned);
            multiply(s.q, s.depth, rows, s.turned, tile, tile, s.scores, tile, args.size, false);
        }
        for (int64_t row = 0; row < rows; row++) weigh(args, row, at, n, s);
        read_tile(args, span, values, group, at, n, end, s.values, s.width);
        multiply(s.scores, tile, rows, s.values, s.width, s.width, s.o, s.width, n, true);
    }
}

// to = to and from combined; each is (o (width), most, total).
void combine(float *to, const float *from, int64_t width) {
    const float top = std::max(to[width], from[width]);
    if (top == -INFINITY) return;
    const float a = std::exp(to[width] - top), b = std::exp(from[width] - top);
    for (int64_t e = 0; e < width; e++) to[e] = to[e] * a + from[e] * b;
    to[width] = top;
    to[width + 1] = to[width + 1] * a + from[width + 1] * b;
}

void pack_row(const Scratch &s, int64_t row, float *to) {
    std::copy(s.o + row * s.width, s.o + (row + 1) * s.width, to);
    to[s.width] = s.most[row];
    to[s.width + 1] = s.total[row];
}

void finish_row(const AttentionArgs &args, int64_t token, int64_t head, const float *o, float most, float total) {
    float factor = 1;
    if (args.sinks && total != 0) {
        const float sink = args.sinks[head], top = std::max(most, sink);
        factor = std::exp(most - top);
        total = total * factor + std::exp(sink - top);
    }
    factor = total == 0 ? 0 : factor / total;  // nothing to read: zeros
    float *out = args.out + (token * args.heads + head) * args.value_size;
    for (int64_t e = 0; e < args.value_size; e++) out[e] = o[e] * factor;
}

void finish_whole(const AttentionArgs &args, const Span &span, int64_t group, int64_t share, const float *whole, int64_t width) {
    for (int64_t h = 0; h < share; h++) {
        const float *row = whole + h * (width + 2);
        finish_row(args, span.token, group * share + h, row, row[width], row[width + 1]);
    }
}

// One chunk of a lone token: kept until its last chunk is done; whoever does that combines them all, in order.
void attend_chunk(const AttentionArgs &args, const Span &span, int64_t group, int64_t share, const Scratch &s) {
    const int64_t step = attention_chunk_size(span.end - span.begin), begin = span.begin + span.chunk * step;
    const int64_t row = s.width + 2, stride = args.groups * share * row;
    read_range(args, span, group, share, begin, std::min<int64_t>(span.end, begin + step), s);
    float *first = args.partial + (span.slot * args.groups + group) * share * row;
    for (int64_t h = 0; h < share; h++) pack_row(s, h, first + span.chunk * stride + h * row);
    std::atomic<int32_t> &done = args.done[span.slot * args.groups + group];
    if (done.fetch_add(1, std::memory_order_acq_rel) + 1 < span.chunks) return;
    done.store(0, std::memory_order_relaxed);
    for (int64_t h = 0; h < share; h++) {
        for (int64_t c = 1; c < span.chunks; c++) combine(first + h * row, first + c * stride + h * row, s.width);
    }
    finish_whole(args, span, group, share, first, s.width);
}

void attend_long(const AttentionArgs &args, const Span &span, int64_t group, int64_t share, const Scratch &s) {
    const int64_t step = attention_chunk_size(span.end - span.begin), row = s.width + 2;
    float *next = s.keys;  // free between ranges
    for (int64_t c = 0; c < span.chunks; c++) {
        const int64_t begin = span.begin + c * step;
        read_range(args, span, group, share, begin, std::min<int64_t>(span.end, begin + step), s);
        for (int64_t h = 0; h < share; h++) {
            if (c == 0) {
                pack_row(s, h, s.whole + h * row);
            } else {
                pack_row(s, h, next);
                combine(s.whole + h * row, next, s.width);
            }
        }
    }
    finish_whole(args, span, group, share, s.whole, s.width);
}

void attend(const AttentionArgs &args, const Span &span, int64_t group, uint8_t *memory) {
    const int64_t share = args.heads / args.groups, rows = span.tokens * share;
    const Scratch s = arrange(args, rows, share, memory);
    clear_padding(args, s);
    read_queries(args, span, group, share, s);
    if (span.chunks > 1) {
        span.chunk < 0 ? attend_long(args, span, group, share, s) : attend_chunk(args, span, group, share, s);
        return;
    }
    read_range(args, span, group, rows, span.begin, span.end, s);
    for (int64_t row = 0; row < rows; row++) {
        finish_row(args, span.token + row / share, group * share + row % share, s.o + row * s.width, s.most[row], s.total[row]);
    }
}

}  // namespace

const AttentionKernels attention_kernels = {attend};

}  // namespace puna::PUNA_ISA
