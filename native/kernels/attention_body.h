// The text of the attention kernels (attention.h), compiled once for each instruction set.

#include <algorithm>

#include "kernels/attention.h"
#include "kernels/pages_body.h"

namespace puna::PUNA_ISA {
namespace {

constexpr int64_t tile = attention_tile;
constexpr int64_t few = 2 * block_rows;  // rows for which reading keys and values as kept is cheaper than making floats

struct Sum {  // what a row has summed up: weighted values, and beside them
    float *o;
    int64_t width;
    float &most() const { return o[width]; }       // the largest score
    float &total() const { return o[width + 1]; }  // the sum of weights
};

struct Scratch {  // rows: tokens of the span times heads of the group
    int64_t depth, width, stride;   // size and value_size, padded; from sum to sum
    float *q, *scores;              // (rows, depth) (rows, tile)
    float *keys, *turned, *values;  // (tile, depth) (depth, tile) (tile, width)
    float *sums, *whole;            // (rows, stride): of this chunk, of the chunks before it
    int32_t *low, *high;            // (rows): positions that a row reads

    Sum sum(int64_t row) const { return {sums + row * stride, width}; }
};

Scratch arrange(const AttentionArgs &args, int64_t rows, uint8_t *memory) {
    Scratch s{};
    s.depth = attention_padded(args.size), s.width = attention_padded(args.value_size);
    s.stride = attention_partial(1, args.value_size);
    const auto take = [&](int64_t n) {
        float *at = reinterpret_cast<float *>(memory);
        memory += (n + 15) / 16 * 64;
        return at;
    };
    s.q = take(rows * s.depth), s.scores = take(rows * tile);
    s.keys = take(tile * s.depth), s.turned = take(tile * s.depth), s.values = take(tile * s.width);
    s.sums = take(rows * s.stride), s.whole = take(rows * s.stride);
    s.low = reinterpret_cast<int32_t *>(take(rows)), s.high = reinterpret_cast<int32_t *>(take(rows));
    if (s.depth != args.size) std::fill(s.keys, s.keys + tile * s.depth, 0.0f);
    if (s.width != args.value_size) std::fill(s.values, s.values + tile * s.width, 0.0f);
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

struct Part {  // of the states, for one group: keys, or values
    const uint8_t *from;
    Kept kept;
    int64_t size, bytes;  // elements and bytes of a row
    bool paged;
    int64_t groups, group;

    int64_t stride() const { return paged ? bytes : groups * bytes; }  // from slot to slot
    const uint8_t *page(int64_t slot) const { return from + (slot / page_slots * groups + group) * page_slots * bytes; }
    const uint8_t *row(int64_t slot) const {
        return paged ? page(slot) + slot % page_slots * bytes : from + (slot * groups + group) * bytes;
    }
};

Part keys_of(const AttentionArgs &args, int64_t group) {
    return {args.k, args.k_kept, args.size, kept_bytes(args.k_kept, args.size), args.k_order == Order::turned, args.groups, group};
}

Part values_of(const AttentionArgs &args, int64_t group) {
    return {args.v, args.v_kept, args.value_size, kept_bytes(args.v_kept, args.value_size), args.v_order == Order::pages, args.groups,
            group};
}

// Where a position's row lies, and how many bytes further on that of the same place in the next tile, if it is read too.
struct Row {
    const uint8_t *from;
    int64_t ahead;
};

Row row_of(const AttentionArgs &args, const Span &span, const Part &part, int64_t position) {
    const uint8_t *from = part.row(slot_of(args, span, position));
    return {from, position + tile < span.end ? part.row(slot_of(args, span, position + tile)) - from : 0};
}

// f(row, i, n) for places [begin, end) of the tile at `at`, in runs of slots that are neighbours: `row` is place i's.
template <class F> void each_run(const AttentionArgs &args, const Span &span, const Part &part, int64_t at, int64_t begin, int64_t end,
                                 F &&f) {
    for (int64_t i = begin; i < end;) {
        const int64_t position = at + i, n = std::min(end - i, args.block_size - position % args.block_size);
        f(row_of(args, span, part, position), i, n);
        i += n;
    }
}

void read_rows(const AttentionArgs &args, const Span &span, const Part &part, int64_t at, int64_t begin, int64_t end, float *to,
               int64_t to_row) {
    each_run(args, span, part, at, begin, end, [&](const Row &row, int64_t i, int64_t n) {
        for (int64_t j = 0; j < n; j++) {
            const uint8_t *from = row.from + j * part.stride();
            for (int64_t b = 0; b < part.bytes; b += 64) fetch(from + row.ahead + b);
            recall_row(part.kept, from, to + (i + j) * to_row, part.size);
        }
    });
}

struct Places {  // of a tile: those that are read
    int64_t begin, end;
};

Places places_of(const Scratch &s, int64_t row, int64_t at) {
    return {std::clamp<int64_t>(s.low[row] - at, 0, tile), std::clamp<int64_t>(s.high[row] - at, 0, tile)};
}

// Scores of every row with the keys of a tile; what they are outside `places` has no meaning.
void score(const AttentionArgs &args, const Span &span, const Part &keys, int64_t rows, int64_t at, Places places, const Scratch &s) {
    const auto product = [&](const auto &factor) { multiply(s.q, s.depth, rows, factor, tile, s.scores, tile, args.size, false); };
    if (!keys.paged) {
        read_rows(args, span, keys, at, places.begin, places.end, s.keys, s.depth);
        transpose(s.keys, s.depth, tile, s.depth, s.turned);
        return product(Floats{s.turned, tile});
    }
    const int64_t first = at + places.begin, next = std::min<int64_t>(first + tile, span.end - 1);
    const uint8_t *page = keys.page(slot_of(args, span, first));
    const int64_t ahead = keys.page(slot_of(args, span, next)) - page;
    if (rows <= few) {
        return with_turned(keys.kept, page, [&](const auto &factor) { product(Fetching{factor, ahead}); });
    }
    if (keys.kept == Kept::f32) return with_turned(keys.kept, page, product);
    recall_turned(keys.kept, page, args.size, s.turned);
    product(Floats{s.turned, tile});
}

// One row's scores of a tile become weights; what the row has summed up is scaled to the new maximum.
void weigh(const AttentionArgs &args, float *scores, Places places, const Sum &row) {
    if (args.softcap != 0) {
        for (int64_t j = 0; j < tile; j += W) store(scores + j, tanh(load(scores + j) / set(args.softcap)) * set(args.softcap));
    }
    std::fill(scores, scores + places.begin, -INFINITY);
    std::fill(scores + places.end, scores + tile, -INFINITY);
    V tops = load(scores);
    for (int64_t j = W; j < tile; j += W) tops = vmax(load(scores + j), tops);
    const float top = std::max(row.most(), largest(tops));
    if (top == -INFINITY) {
        std::fill(scores, scores + tile, 0.0f);
        return;
    }
    if (top != row.most() && row.most() != -INFINITY) {
        const float factor = std::exp(row.most() - top);
        row.total() *= factor;
        for (int64_t e = 0; e < row.width; e += W) store(row.o + e, load(row.o + e) * set(factor));
    }
    row.most() = top;
    V sums = set(0);
    for (int64_t j = 0; j < tile; j += W) {
        const V weight = exp(load(scores + j) - set(top));
        sums = sums + weight;
        store(scores + j, weight);
    }
    row.total() += sum(sums);
}

// Adds the weighted values of `places` to rows [first, first + n). Values were made floats in s.values, or not.
void add_values(const AttentionArgs &args, const Span &span, const Part &values, int64_t first, int64_t n, int64_t at, Places places,
                bool made, const Scratch &s) {
    float *sums = s.sums + first * s.stride;
    const float *weights = s.scores + first * tile;
    const auto add = [&](const auto &factor, int64_t i, int64_t count) {
        multiply(weights + i, tile, n, factor, made ? s.width : values.size, sums, s.stride, count, true);
    };
    if (made) return add(Floats{s.values + places.begin * s.width, s.width}, places.begin, places.end - places.begin);
    each_run(args, span, values, at, places.begin, places.end, [&](const Row &row, int64_t i, int64_t count) {
        with_rows(values.kept, row.from, values.stride(), [&](const auto &factor) { add(Fetching{factor, row.ahead}, i, count); });
    });
}

bool readable_as_kept(const Part &values, int64_t rows) {
    return values.size % W == 0 && (values.kept == Kept::f32 || (rows <= few && values.kept != Kept::bf16));
}

// One tile for all rows. A row takes part with the places that it reads only: others may hold anything, even NaN.
void read_tile(const AttentionArgs &args, const Span &span, const Part &keys, const Part &values, int64_t share, int64_t at,
               const Scratch &s) {
    const int64_t rows = span.tokens * share;
    const Places all{std::max<int64_t>(0, span.begin - at), std::min<int64_t>(tile, span.end - at)};
    score(args, span, keys, rows, at, all, s);
    bool alike = true;
    for (int64_t row = 0; row < rows; row++) {
        const Places places = places_of(s, row, at);
        if (places.begin < places.end) weigh(args, s.scores + row * tile, places, s.sum(row));
        alike = alike && places.begin == all.begin && places.end == all.end;
    }
    const bool made = !readable_as_kept(values, rows);
    if (made) read_rows(args, span, values, at, all.begin, all.end, s.values, s.width);
    if (alike) return add_values(args, span, values, 0, rows, at, all, made, s);
    for (int64_t row = 0; row < rows; row += share) {
        const Places places = places_of(s, row, at);
        if (places.begin < places.end) add_values(args, span, values, row, share, at, places, made, s);
    }
}

void clear(float *sums, int64_t rows, const Scratch &s) {
    std::fill(sums, sums + rows * s.stride, 0.0f);
    for (int64_t row = 0; row < rows; row++) sums[row * s.stride + s.width] = -INFINITY;
}

void read_chunk(const AttentionArgs &args, const Span &span, int64_t group, int64_t share, int64_t chunk, const Scratch &s) {
    const Part keys = keys_of(args, group), values = values_of(args, group);
    clear(s.sums, span.tokens * share, s);
    const int64_t begin = std::max<int64_t>(chunk * attention_chunk, span.begin / tile * tile);
    const int64_t end = std::min<int64_t>((chunk + 1) * attention_chunk, span.end);
    for (int64_t at = begin; at < end; at += tile) read_tile(args, span, keys, values, share, at, s);
}

// Adds the sums of a later chunk; one in which a row read nothing changes nothing.
void combine(float *to, const float *from, int64_t rows, const Scratch &s) {
    for (int64_t row = 0; row < rows; row++, to += s.stride, from += s.stride) {
        const float before = to[s.width], later = from[s.width], top = std::max(before, later);
        if (later == -INFINITY) continue;
        if (before == -INFINITY) {
            std::copy(from, from + s.stride, to);
            continue;
        }
        const float a = std::exp(before - top), b = std::exp(later - top);
        for (int64_t e = 0; e < s.width; e++) to[e] = to[e] * a + from[e] * b;
        to[s.width] = top;
        to[s.width + 1] = to[s.width + 1] * a + from[s.width + 1] * b;
    }
}

void finish_row(const AttentionArgs &args, int64_t token, int64_t head, const Sum &row) {
    float factor = 1, total = row.total();
    if (args.sinks && total != 0) {
        const float sink = args.sinks[head], top = std::max(row.most(), sink);
        factor = std::exp(row.most() - top);
        total = total * factor + std::exp(sink - top);
    }
    factor = total == 0 ? 0 : factor / total;  // nothing to read: zeros
    float *out = args.out + (token * args.heads + head) * args.value_size;
    for (int64_t e = 0; e < args.value_size; e++) out[e] = row.o[e] * factor;
}

void finish(const AttentionArgs &args, const Span &span, int64_t group, int64_t share, float *sums, const Scratch &s) {
    for (int64_t row = 0; row < span.tokens * share; row++) {
        finish_row(args, span.token + row / share, group * share + row % share, {sums + row * s.stride, s.width});
    }
}

// One chunk of a span that is cut: kept until the last one is done; whoever does that combines them all.
void attend_chunk(const AttentionArgs &args, const Span &span, int64_t group, int64_t share, const Scratch &s) {
    const int64_t rows = span.tokens * share, size = rows * s.stride;
    float *first = args.partial + (span.slot * args.groups * share + group * rows) * s.stride;
    const auto chunk = [&](int64_t c) { return first + c * args.groups * size; };
    read_chunk(args, span, group, share, span.begin / attention_chunk + span.chunk, s);
    std::copy(s.sums, s.sums + size, chunk(span.chunk));
    std::atomic<int32_t> &done = args.done[span.slot * args.groups + group];
    if (done.fetch_add(1, std::memory_order_acq_rel) + 1 < span.chunks) return;
    done.store(0, std::memory_order_relaxed);
    for (int64_t c = 1; c < span.chunks; c++) combine(first, chunk(c), rows, s);
    finish(args, span, group, share, first, s);
}

void attend_whole(const AttentionArgs &args, const Span &span, int64_t group, int64_t share, const Scratch &s) {
    const int64_t rows = span.tokens * share, first = span.begin / attention_chunk;
    clear(s.whole, rows, s);
    for (int64_t c = 0; c < span.chunks; c++) {
        read_chunk(args, span, group, share, first + c, s);
        combine(s.whole, s.sums, rows, s);
    }
    finish(args, span, group, share, s.whole, s);
}

void attend(const AttentionArgs &args, const Span &span, int64_t group, uint8_t *memory) {
    const int64_t share = args.heads / args.groups;
    const Scratch s = arrange(args, span.tokens * share, memory);
    read_queries(args, span, group, share, s);
    span.chunk < 0 ? attend_whole(args, span, group, share, s) : attend_chunk(args, span, group, share, s);
}

}  // namespace

const AttentionKernels attention_kernels = {attend};

}  // namespace puna::PUNA_ISA
