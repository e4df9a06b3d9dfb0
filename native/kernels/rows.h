// Kernels that make one row of floats at a time: norms, activations, rotation, and storing or loading rows of states.
#pragma once

#include <cstdint>

namespace puna {

// out[0..n) from a; b and c are weight and bias of a norm (or null), or the second factor of a product.
using RowFunction = void (*)(const float *a, const float *b, const float *c, float *out, int64_t n, float eps);

enum class Row : int32_t {
    rms_norm, layer_norm, softmax, silu, gelu, gelu_tanh, silu_mul, gelu_mul, gelu_tanh_mul, sigmoid, count,
};

// How a state keeps its values.
enum class Kept : int32_t { f32, f16, bf16, q8_0 };

// How a state's slots lie: one after the other, (slot, group, element); or in pages of 64, (group, page, ...), so that
// attention reads one group from end to end: a page of values is (slot, element), one of keys is turned, (element,
// slot), as scores are computed for many keys at once. Pages of q8_0: q8_pages.h.
enum class Order : int32_t { slots, pages, turned };
constexpr int64_t page_slots = 64;

struct RowKernels {
    RowFunction rows[int(Row::count)];
    // out = x turned: x * cos + partner(x) * sin for the first `turned` elements, the others as they are. The partner
    // of i is its neighbour (pairs) or the element half of `turned` away; `cos` and `sin` have `turned` elements.
    void (*rotate)(const float *x, const float *cos, const float *sin, float *out, int64_t turned, int64_t n,
                   bool pairs);
    void (*keep)(Kept kept, const float *x, uint8_t *out, int64_t n);
    void (*recall)(Kept kept, const uint8_t *x, float *out, int64_t n);
};

int64_t kept_bytes(Kept kept, int64_t n);

}  // namespace puna
