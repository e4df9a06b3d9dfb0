// The running softmax of attention: scores to weights, and what rows have summed up. Text compiled once for each
// instruction set.
#pragma once

#include <algorithm>

#include "kernels/attention.h"
#include "kernels/places_body.h"
#include "kernels/vec.h"

namespace puna::PUNA_ISA {
namespace {

struct Sum {  // what a row has summed up: weighted values, and beside them
    float *o;
    int64_t width;
    float &most() const { return o[width]; }       // the largest score
    float &total() const { return o[width + 1]; }  // the sum of weights
};

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

// Adds the sums of a later chunk; one in which a row read nothing changes nothing.
void combine(float *to, const float *from, int64_t rows, int64_t stride, int64_t width) {
    for (int64_t row = 0; row < rows; row++, to += stride, from += stride) {
        const float before = to[width], later = from[width], top = std::max(before, later);
        if (later == -INFINITY) continue;
        if (before == -INFINITY) {
            std::copy(from, from + stride, to);
            continue;
        }
        const float a = std::exp(before - top), b = std::exp(later - top);
        for (int64_t e = 0; e < width; e++) to[e] = to[e] * a + from[e] * b;
        to[width] = top;
        to[width + 1] = to[width + 1] * a + from[width + 1] * b;
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

}  // namespace
}  // namespace puna::PUNA_ISA
