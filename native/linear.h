// y = x W^T for a weight of any ggml type: packing, activation quantization, the matrix product, row lookup.
//
// A weight (n rows, k columns, ggml bytes) is packed once into panels of 16 rows, laid out for the kernels (layout in
// kernels/panels.h). Activations are put once per input into an "act" buffer that all weights reading it share. A
// product is cut into units that any threads may take, in any order; there is no barrier inside. Each output element is
// computed by the same operations whatever t, unit or thread: bitwise the same alone and in a batch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "types.h"

namespace puna {

bool is_linear_type(int32_t ggml_id);        // one of those in types.h, whose grid was taken if it has one
size_t row_bytes(Type type, int64_t k);      // bytes of one row as stored in a file
int64_t block_size(Type type);               // k must be a multiple of it

ActKind act_kind(Type type);
bool keeps_values(Type type);                // whether rows of the packed weight are exactly the stored ones

struct LinearKernels;

// ---- weights

struct Packed {
    Type type;
    int64_t n, k;         // outputs (rows), inputs (columns)
    const uint8_t *data;  // 64-byte aligned, `bytes` long
    size_t bytes;
};

int64_t panels(int64_t n);                                // ceil(n / 16)
size_t packed_bytes(Type type, int64_t n, int64_t k);     // for the whole weight; a multiple of 64

// Packs panels [panel_begin, panel_end) of `src` (n rows of ggml bytes, any alignment) into `dst` (64-byte aligned, the
// start of the whole weight). Disjoint ranges may be packed by several threads. Touches only the source rows it packs.
void pack(Type type, int64_t n, int64_t k, const uint8_t *src, uint8_t *dst, int64_t panel_begin, int64_t panel_end);

// ---- activations

// Bytes of the act buffer for t rows of k inputs; its start must be 64-byte aligned.
size_t act_bytes(ActKind kind, int64_t t, int64_t k);

// Converts rows [row_begin, row_end) into `act`; x is the first of them. `t` is the number of rows of the whole
// buffer: the layout depends on it, and `linear` must be called with the same t. Disjoint rows may be done by several
// threads; pieces of 16 rows share no cache line.
void quantize_rows(const LinearKernels &kernels, ActKind kind, const float *x, int64_t stride, int64_t row_begin,
                   int64_t row_end, int64_t t, int64_t k, void *act);

// Copies a row that was converted alone (t = 1) to row `row` of an act buffer for t rows.
void place_row(const LinearKernels &kernels, ActKind kind, const void *alone, int64_t row, int64_t t, int64_t k,
               void *act);

// ---- the product

// y[r, 0..n) = act[r] W^T (+ bias) (+ y[r] before, if add), for r < t; row r of y at y + r * y_stride, any alignment.
struct LinearJob {
    const Packed *weight;
    const void *act;              // of kind act_kind(weight->type), t rows, weight->k columns
    float *y;
    int64_t y_stride;
    const float *bias = nullptr;  // n, or null
    bool add = false;             // add to what y holds
};

// Bytes of weights that a piece of work reads, times t rows. With few rows, reading is all the work: about half a
// microsecond of memory. With many they stay in L2 beside a tile of rows, which is read again for every piece.
constexpr int64_t unit_bytes(int64_t t) { return t <= 4 ? 16 << 10 : 192 << 10; }

// Pieces of about equal work to hand to `linear`.
int64_t linear_units(const LinearKernels &kernels, const Packed &weight, int64_t t, int threads);

// `scratch`: linear_scratch() bytes of the calling thread, 64-byte aligned.
size_t linear_scratch();
void linear(const LinearKernels &kernels, const LinearJob &job, int64_t t, int threads, int64_t unit_begin,
            int64_t unit_end, uint8_t *scratch);

// The same for panels [panel_begin, panel_end) only, of all t rows; for callers that cut the work themselves.
void linear_panels(const LinearKernels &kernels, const LinearJob &job, int64_t t, int64_t panel_begin,
                   int64_t panel_end, uint8_t *scratch);

// ---- row lookup (embedding)

// out[i, 0..k) = row ids[i], exactly as ggml dequantizes it. From file bytes, and from a packed weight (tied
// embedding). Ids must be in [0, n); the packed weight must keep its values.
void embed_rows(Type type, const uint8_t *src, int64_t k, const int32_t *ids, int64_t count, float *out,
                int64_t out_stride);
void embed_rows(const Packed &weight, const int32_t *ids, int64_t count, float *out, int64_t out_stride);

}  // namespace puna
