// Keys and values of attention as factors of float products, read from the states as they are kept (q8_0:
// short_body.h). Text compiled once for each instruction set.
#pragma once

#include "kernels/kept_body.h"
#include "kernels/matrix_body.h"

namespace puna::PUNA_ISA {
namespace {

// A factor that asks for what lies `ahead` bytes further on, which is wanted next: the next page may lie anywhere,
// which the processor does not foresee.
template <class B> struct Fetching {
    B factor;
    int64_t ahead;
    V operator()(int64_t k, int64_t j) const {
        fetch(factor.at(k, j), ahead);
        return factor(k, j);
    }
};

// f(factor) for n rows of values `row` bytes apart, whose size is a whole number of vectors; false where there is none.
template <class F> bool with_rows(Kept kept, const uint8_t *from, int64_t row, F &&f) {
    switch (kept) {
    case Kept::f32: f(Floats{reinterpret_cast<const float *>(from), row / 4}); return true;
    case Kept::f16: f(Halves{reinterpret_cast<const uint16_t *>(from), row / 2}); return true;
    default: return false;
    }
}

// f(factor) for a turned page of keys.
template <class F> void with_turned(Kept kept, const uint8_t *page, F &&f) {
    switch (kept) {
    case Kept::f32: return f(Floats{reinterpret_cast<const float *>(page), page_slots});
    default: return f(Halves{reinterpret_cast<const uint16_t *>(page), page_slots});
    }
}

// A turned page as floats (size, slots).
void recall_turned(Kept kept, const uint8_t *page, int64_t size, float *out) {
    with_turned(kept, page, [&](const auto &keys) {
        for (int64_t k = 0; k < size; k++) {
            for (int64_t i = 0; i < page_slots; i += W) store(out + k * page_slots + i, keys(k, i));
        }
    });
}

}  // namespace
}  // namespace puna::PUNA_ISA
