// Attention over paged keys and values, in tiles with a running softmax: scores never exist for the whole context.
//
// A *span* is a few consecutive tokens of one sequence and the positions that they read. A unit of work is one span and
// one group (a K/V head with the query heads that share it): each tile of keys and values is read once for all of them.
//
// What one token gets does not depend, to the last bit, on what is computed beside it. Tiles and *chunks* of tiles
// begin at fixed positions; a row is weighed by chunks and its values summed up tile by tile, its chunks are combined
// in order, and positions that it does not read leave no trace. So a span of a small batch may be cut: its chunks are
// then units of their own, and the thread that ends the last one combines them.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "kernels/rows.h"

namespace puna {

constexpr int64_t attention_tile = page_slots;  // keys
constexpr int64_t attention_rows = 96;          // tokens of a span times query heads of a group, at most (or one token)
constexpr int64_t attention_chunk = 256;        // positions
constexpr int64_t attention_slots = 512;        // chunks times tokens of all spans that are cut, at most
constexpr int64_t attention_cut_tokens = 32;    // a larger batch keeps all threads busy without cuts

struct Span {
    int32_t token, tokens, sequence, begin, end;  // positions [begin, end) hold all that its tokens read
    int32_t chunk, chunks, slot;  // chunk -1: all of them; slot: where results of the first chunk are kept
};

// The first position that a token reads, and the one after the last: of those nearer than `window`, where it is below 0
// of the token's own chunk of -window positions, where it is 0 of all below `length`.
inline int64_t first_read(int64_t position, int64_t window) {
    if (window < 0) return std::max<int64_t>(0, position - position % -window);
    return window ? std::max<int64_t>(0, position - window + 1) : 0;
}

inline int64_t read_end(int64_t position, int64_t window, int64_t length) {
    if (!window) return length;
    return std::min(length, window < 0 ? first_read(position, window) - window : position + window);
}

struct AttentionArgs {
    const float *q;
    int64_t q_token, q_head;  // strides in elements
    const uint8_t *k, *v;
    Kept k_kept, v_kept;
    Order k_order, v_order;
    int64_t capacity;  // slots
    int64_t heads, groups, size, value_size;
    const int32_t *positions, *lengths, *table;
    int64_t position_stride, length_stride, table_row, table_column, table_columns, block_size;
    int64_t window;  // see first_read
    bool causal;
    float scale, softcap;
    const float *sinks;     // a head, or null
    const float *bias;      // (heads, 2 * reach + 1), by distance from the token, or null
    int64_t reach;
    float *out;             // (t, heads, value_size)
    float *partial;         // attention_partial() floats a slot and group
    std::atomic<int32_t> *done;  // a counter a slot and group, zero between steps
    std::atomic<int> *fault;     // set where a slot lies outside the state
    int fault_value;
};

int64_t attention_padded(int64_t size);                                          // to whole vectors
int64_t attention_scratch(int64_t share, int64_t size, int64_t value_size);      // bytes
inline int64_t attention_partial(int64_t share, int64_t value_size) {
    return share * (attention_padded(value_size) + 16);
}

struct AttentionKernels {
    void (*attend)(const AttentionArgs &args, const Span &span, int64_t group, uint8_t *scratch);
};

}  // namespace puna
