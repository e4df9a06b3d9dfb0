// The text of the attention kernels (attention.h), compiled once for each instruction set.

#include <algorithm>

#include "kernels/attention.h"
#include "kernels/pages_body.h"
#include "kernels/places_body.h"
#include "kernels/short_body.h"
#include "kernels/softmax_body.h"

namespace puna::PUNA_ISA {
namespace {

constexpr int64_t few = 2 * block_rows;  // rows for which reading keys and values as kept is cheaper than making floats

struct Scratch {  // rows: tokens of the span times heads of the group
    int64_t depth, width, stride;   // size and value_size, padded; from sum to sum
    float *q, *scores;              // (rows, depth) (rows, chunk)
    float *keys, *turned, *values;  // (tile, depth) (depth, tile) (tile, width)
    float *sums, *whole;            // (rows, stride): of this chunk, of the chunks before it
    int32_t *low, *high;            // (rows): positions that a row reads
    Shorts short_q, short_weights;  // (rows, depth) (rows, tile), where keys or values are q8_0

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
    s.q = take(rows * s.depth), s.scores = take(rows * attention_chunk);
    s.keys = take(tile * s.depth), s.turned = take(tile * s.depth), s.values = take(tile * s.width);
    s.sums = take(rows * s.stride), s.whole = take(rows * s.stride);
    s.low = reinterpret_cast<int32_t *>(take(rows)), s.high = reinterpret_cast<int32_t *>(take(rows));
    const auto take_shorts = [&](int64_t row) {
        int16_t *at = reinterpret_cast<int16_t *>(take(rows * row / 2));
        return Shorts{at, row, take(rows)};
    };
    s.short_q = take_shorts(s.depth), s.short_weights = take_shorts(tile);
    if (s.depth != args.size) std::fill(s.keys, s.keys + tile * s.depth, 0.0f);
    if (s.width != args.value_size) std::fill(s.values, s.values + tile * s.width, 0.0f);
    return s;
}

void read_queries(const AttentionArgs &args, const Span &span, int64_t group, int64_t share, const Scratch &s) {
    for (int64_t i = 0; i < span.tokens; i++) {
        const int64_t token = span.token + i, position = args.positions[token * args.position_stride];
        int64_t high = args.lengths[span.sequence * args.length_stride];
        if (args.causal) high = std::min(high, position + 1);
        high = read_end(position, args.window, high);
        const int64_t low = first_read(position, args.window);
        for (int64_t h = 0; h < share; h++) {
            const int64_t row = i * share + h;
            const float *from = args.q + token * args.q_token + (group * share + h) * args.q_head;
            float *to = s.q + row * s.depth;
            for (int64_t d = 0; d < args.size; d++) to[d] = from[d] * args.scale;
            s.low[row] = int32_t(low), s.high[row] = int32_t(high);
            if (args.k_kept == Kept::q8_0)
                s.short_q.units[row] = shorten(to, args.size, s.short_q.rows + row * s.depth);
        }
    }
}

void read_rows(const AttentionArgs &args, const Span &span, const Part &part, int64_t at, int64_t begin, int64_t end,
               float *to, int64_t to_row) {
    each_run(args, span, part, at, begin, end, [&](const Row &row, int64_t i, int64_t n) {
        for (int64_t j = 0; j < n; j++) {
            const uint8_t *from = row.from + j * part.stride();
            for (int64_t b = 0; b < part.bytes; b += 64) fetch(from + b, row.ahead);
            recall_row(part.kept, from, to + (i + j) * to_row, part.size);
        }
    });
}

// Positions of one group that a unit of work reads at a stretch: all keys are scored before values are added.
struct Chunk {
    Part keys, values;
    int64_t at;     // where it begins
    Places places;  // positions
    const uint8_t *after;  // keys that are read next, or null

    int64_t begin() const { return std::max(at, places.begin / tile * tile); }
    Places within(int64_t tile_at) const { return places.within(tile_at, tile); }
};

Places row_places(const Scratch &s, int64_t row) { return {s.low[row], s.high[row]}; }

struct Page {  // of a tile: read where it lies, or as it was put together from slots
    const uint8_t *from;
    int64_t ahead;  // bytes to what is read next
};

Page page_of(const AttentionArgs &args, const Span &span, const Chunk &chunk, const Part &part, int64_t at) {
    const uint8_t *from = start_of(args, span, part, std::max(at, chunk.places.begin)), *next = chunk.after;
    if (at + tile < chunk.places.end) {
        next = start_of(args, span, part, at + tile);
    } else if (part.from == chunk.keys.from) {
        next = start_of(args, span, chunk.values, chunk.places.begin);
    }
    return {from, next ? bytes_to(from, next) : 0};
}

// A page of q8_0; `place` puts a row in its slot of one.
Page q8_page(const AttentionArgs &args, const Span &span, const Chunk &chunk, const Part &part, int64_t at,
             void (*place)(const uint8_t *, int64_t, uint8_t *, int64_t), float *memory) {
    if (part.paged) return page_of(args, span, chunk, part, at);
    uint8_t *page = reinterpret_cast<uint8_t *>(memory);
    const Places places = chunk.within(at);
    each_run(args, span, part, at, places.begin, places.end, [&](const Row &row, int64_t i, int64_t n) {
        for (int64_t j = 0; j < n; j++) place(row.from + j * part.stride(), part.size, page, i + j);
    });
    return {page, 0};
}

// Scores of every row with the keys of a tile; what they are outside its places has no meaning.
void score(const AttentionArgs &args, const Span &span, const Chunk &chunk, int64_t rows, int64_t at,
           const Scratch &s) {
    const Part &keys = chunk.keys;
    float *scores = s.scores + (at - chunk.at);
    const auto product = [&](const auto &factor) {
        multiply(s.q, s.depth, rows, factor, tile, scores, attention_chunk, args.size, false);
    };
    if (keys.kept == Kept::q8_0) {
        const Page page = q8_page(args, span, chunk, keys, at, place_q8_key, s.keys);
        return score_shorts(s.short_q, rows, page.from, page.ahead, args.size, scores, attention_chunk);
    }
    if (!keys.paged) {
        const Places places = chunk.within(at);
        read_rows(args, span, keys, at, places.begin, places.end, s.keys, s.depth);
        transpose(s.keys, s.depth, tile, s.depth, s.turned);
        return product(Floats{s.turned, tile});
    }
    const Page page = page_of(args, span, chunk, keys, at);
    if (rows <= few) {
        return with_turned(keys.kept, page.from, [&](const auto &factor) { product(Fetching{factor, page.ahead}); });
    }
    if (keys.kept == Kept::f32) return with_turned(keys.kept, page.from, product);
    recall_turned(keys.kept, page.from, args.size, s.turned);
    product(Floats{s.turned, tile});
}

// The weighted values of `places` of a tile for rows [first, first + n). Values were made floats in s.values, or not.
void add_values(const AttentionArgs &args, const Span &span, const Chunk &chunk, int64_t first, int64_t n, int64_t at,
                Places places, bool made, const Scratch &s) {
    const Part &values = chunk.values;
    float *sums = s.sums + first * s.stride;
    const float *weights = s.scores + first * attention_chunk + (at - chunk.at);
    const auto add = [&](const auto &factor, int64_t i, int64_t count) {
        multiply(weights + i, attention_chunk, n, factor, made ? s.width : values.size, sums, s.stride, count, true);
    };
    if (made) return add(Floats{s.values + places.begin * s.width, s.width}, places.begin, places.end - places.begin);
    const auto add_kept = [&](const uint8_t *from, int64_t ahead, int64_t i, int64_t count) {
        with_rows(values.kept, from, values.stride(),
                  [&](const auto &factor) { add(Fetching{factor, ahead}, i, count); });
    };
    if (values.paged) {
        const Page page = page_of(args, span, chunk, values, at);
        return add_kept(page.from + places.begin * values.stride(), page.ahead, places.begin,
                        places.end - places.begin);
    }
    each_run(args, span, values, at, places.begin, places.end,
             [&](const Row &row, int64_t i, int64_t count) { add_kept(row.from, row.ahead, i, count); });
}

// The same for all rows and q8_0, whose integers are harmless where a row does not read: its weights are zeros there.
void add_q8_values(const AttentionArgs &args, const Span &span, const Chunk &chunk, int64_t rows, int64_t at,
                   const Scratch &s) {
    const Page page = q8_page(args, span, chunk, chunk.values, at, place_q8_value, s.values);
    for (int64_t e = 0; e < chunk.values.size; e += 32) {
        const uint8_t *block = page.from + e / 32 * q8_page_block;
        for (int64_t row = 0; row < rows; row++) {
            const Places places = row_places(s, row).within(at, tile);
            const Shorts to = s.short_weights.from(row);
            *to.units = shorten_weights(s.scores + row * attention_chunk + (at - chunk.at), block, places.begin,
                                        places.end, to.rows);
        }
        add_shorts(s.short_weights, rows, block, page.ahead, s.sums + e, s.stride);
    }
}

bool readable_as_kept(const Part &values, int64_t rows) {
    return values.size % W == 0 && (values.kept == Kept::f32 || (rows <= few && values.kept != Kept::bf16));
}

// Values of one tile for all rows. A row takes part with the places that it reads only: others may hold anything.
void add_tile(const AttentionArgs &args, const Span &span, const Chunk &chunk, int64_t share, int64_t at,
              const Scratch &s) {
    const int64_t rows = span.tokens * share;
    const Places all = chunk.within(at);
    if (chunk.values.kept == Kept::q8_0) return add_q8_values(args, span, chunk, rows, at, s);
    const bool made = !readable_as_kept(chunk.values, rows);
    if (made) read_rows(args, span, chunk.values, at, all.begin, all.end, s.values, s.width);
    bool alike = true;
    for (int64_t row = 0; row < rows; row += share) {
        const Places places = row_places(s, row).within(at, tile);
        alike = alike && places.begin == all.begin && places.end == all.end;
    }
    if (alike) return add_values(args, span, chunk, 0, rows, at, all, made, s);
    for (int64_t row = 0; row < rows; row += share) {
        const Places places = row_places(s, row).within(at, tile);
        if (places.begin < places.end) add_values(args, span, chunk, row, share, at, places, made, s);
    }
}

void clear(float *sums, int64_t rows, const Scratch &s) {
    std::fill(sums, sums + rows * s.stride, 0.0f);
    for (int64_t row = 0; row < rows; row++) sums[row * s.stride + s.width] = -INFINITY;
}

// The keys that this thread most likely reads after a chunk.
const uint8_t *after_chunk(const AttentionArgs &args, const Span &span, int64_t group, Places places) {
    return places.end < span.end ? start_of(args, span, keys_of(args, group), places.end) : nullptr;
}

// Scores of one row of the chunk that begins at `first` become weights.
void weigh_row(const AttentionArgs &args, const Span &span, int64_t group, int64_t first, int64_t row,
               const Scratch &s) {
    const Places read = row_places(s, row).within(first, attention_chunk);
    if (read.begin >= read.end) return;
    const int64_t share = args.heads / args.groups, head = group * share + row % share;
    float *scores = s.scores + row * attention_chunk;
    if (args.softcap != 0) cap(scores, read, args.softcap);
    if (args.bias) {
        const int64_t position = args.positions[(span.token + row / share) * args.position_stride];
        add_bias(scores, read, args.bias + head * (2 * args.reach + 1), args.reach, first - position);
    }
    weigh(scores, read, s.sum(row));
}

void read_chunk(const AttentionArgs &args, const Span &span, int64_t group, int64_t share, int64_t number,
                const Scratch &s) {
    const int64_t rows = span.tokens * share, first = number * attention_chunk;
    const Places places{std::max<int64_t>(first, span.begin), std::min<int64_t>(first + attention_chunk, span.end)};
    const Chunk chunk{keys_of(args, group), values_of(args, group), first, places,
                      after_chunk(args, span, group, places)};
    clear(s.sums, rows, s);
    for (int64_t at = chunk.begin(); at < places.end; at += tile) score(args, span, chunk, rows, at, s);
    for (int64_t row = 0; row < rows; row++) weigh_row(args, span, group, first, row, s);
    for (int64_t at = chunk.begin(); at < places.end; at += tile) add_tile(args, span, chunk, share, at, s);
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
    for (int64_t c = 1; c < span.chunks; c++) combine(first, chunk(c), rows, s.stride, s.width);
    finish(args, span, group, share, first, s);
}

void attend_whole(const AttentionArgs &args, const Span &span, int64_t group, int64_t share, const Scratch &s) {
    const int64_t rows = span.tokens * share, first = span.begin / attention_chunk;
    clear(s.whole, rows, s);
    for (int64_t c = 0; c < span.chunks; c++) {
        read_chunk(args, span, group, share, first + c, s);
        combine(s.whole, s.sums, rows, s.stride, s.width);
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

extern const AttentionKernels attention_kernels = {attend};

}  // namespace puna::PUNA_ISA
