// Where keys and values of a span lie in the states. Text compiled once for each instruction set.
#pragma once

#include <algorithm>

#include "kernels/attention.h"
#include "kernels/kept_body.h"

namespace puna::PUNA_ISA {
namespace {

constexpr int64_t tile = attention_tile;

struct Places {  // that are read: positions, or counted from where a chunk or tile begins
    int64_t begin, end;
    Places within(int64_t at, int64_t n) const {
        return {std::clamp<int64_t>(begin - at, 0, n), std::clamp<int64_t>(end - at, 0, n)};
    }
};

int64_t slot_of(const AttentionArgs &args, const Span &span, int64_t position) {
    const int64_t block = position / args.block_size;
    int64_t slot = -1;
    if (block < args.table_columns) {
        slot = args.table[span.sequence * args.table_row + block * args.table_column] * args.block_size +
               position % args.block_size;
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
    int64_t groups, group, pages;

    int64_t stride() const { return paged ? bytes : groups * bytes; }  // from slot to slot
    const uint8_t *page(int64_t slot) const { return from + (group * pages + slot / page_slots) * page_slots * bytes; }
    const uint8_t *row(int64_t slot) const {
        return paged ? page(slot) + slot % page_slots * bytes : from + (slot * groups + group) * bytes;
    }
};

Part keys_of(const AttentionArgs &args, int64_t group) {
    const int64_t bytes = kept_bytes(args.k_kept, args.size);
    const bool paged = args.k_order == Order::turned;
    return {args.k, args.k_kept, args.size, bytes, paged, args.groups, group, args.capacity / page_slots};
}

Part values_of(const AttentionArgs &args, int64_t group) {
    const int64_t bytes = kept_bytes(args.v_kept, args.value_size);
    const bool paged = args.v_order == Order::pages;
    return {args.v, args.v_kept, args.value_size, bytes, paged, args.groups, group, args.capacity / page_slots};
}

// Where a position's row lies, and how many bytes further on that of the same place in the next tile, if it is read.
struct Row {
    const uint8_t *from;
    int64_t ahead;
};

Row row_of(const AttentionArgs &args, const Span &span, const Part &part, int64_t position) {
    const uint8_t *from = part.row(slot_of(args, span, position));
    return {from, position + tile < span.end ? part.row(slot_of(args, span, position + tile)) - from : 0};
}

// Where the tile at a position begins in the states, if they are paged.
const uint8_t *start_of(const AttentionArgs &args, const Span &span, const Part &part, int64_t position) {
    return part.page(slot_of(args, span, position));
}

// f(row, i, n) for places [begin, end) of the tile at `at`, in runs of slots that are neighbours: `row` is place i's.
template <class F>
void each_run(const AttentionArgs &args, const Span &span, const Part &part, int64_t at, int64_t begin, int64_t end,
              F &&f) {
    for (int64_t i = begin; i < end;) {
        const int64_t position = at + i, n = std::min(end - i, args.block_size - position % args.block_size);
        const int64_t room = args.capacity - slot_of(args, span, position);
        if (n > room) args.fault->store(args.fault_value, std::memory_order_relaxed);
        f(row_of(args, span, part, position), i, std::min(n, room));
        i += n;
    }
}

}  // namespace
}  // namespace puna::PUNA_ISA
