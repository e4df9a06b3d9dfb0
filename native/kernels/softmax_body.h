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

// A row whose scores are all -inf, or NaN: nothing to weigh.
void weigh_nothing(float *scores, Places places, const Sum &row) {
    const bool nan = std::any_of(scores + places.begin, scores + places.end, [](float x) { return x != x; });
    if (nan) row.most() = 0, row.total() = NAN;
    std::fill(scores + places.begin, scores + places.end, 0.0f);
}

Places whole_vectors(Places places) { return {places.begin / W * W, (places.end + W - 1) / W * W}; }

void cap(float *scores, Places places, float softcap) {
    const Places all = whole_vectors(places);
    for (int64_t j = all.begin; j < all.end; j += W)
        store(scores + j, tanh(load(scores + j) / set(softcap)) * set(softcap));
}

// bias[at ...], of which there are those from 0 to last: the first and the last stand for all beyond.
V biases(const float *bias, int64_t last, int64_t at) {
    if (at >= 0 && at + W <= last + 1) return load(bias + at);
    if (at >= last) return set(bias[last]);
    if (at + W <= 1) return set(bias[0]);
    float some[W];
    for (int64_t i = 0; i < W; i++) some[i] = bias[std::clamp<int64_t>(at + i, 0, last)];
    return load(some);
}

// Adds a bias by distance from the token, which is `distance` for score 0.
void add_bias(float *scores, Places places, const float *bias, int64_t reach, int64_t distance) {
    const Places all = whole_vectors(places);
    for (int64_t j = all.begin; j < all.end; j += W) {
        store(scores + j, load(scores + j) + biases(bias, 2 * reach, distance + j + reach));
    }
}

// One row's scores of a chunk become weights; vectors without places that are read stay as they are.
void weigh(float *scores, Places places, const Sum &row) {
    const auto [begin, end] = whole_vectors(places);
    std::fill(scores + begin, scores + places.begin, -INFINITY);
    std::fill(scores + places.end, scores + end, -INFINITY);
    V tops = load(scores + begin);
    for (int64_t j = begin + W; j < end; j += W) tops = vmax(load(scores + j), tops);
    const float top = largest(tops);
    if (top == -INFINITY) return weigh_nothing(scores, places, row);
    V sums = set(0);
    for (int64_t j = begin; j < end; j += W) {
        const V weight = fade(load(scores + j) - set(top));
        sums = sums + weight;
        store(scores + j, weight);
    }
    row.most() = top, row.total() = sum(sums);
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
        const V a = exp(set(before - top)), b = exp(set(later - top));
        for (int64_t e = 0; e < stride; e += W) store(to + e, fma(load(to + e), a, load(from + e) * b));  // total too
        to[width] = top;
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
