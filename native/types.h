// The names that packing, kernels and programs share; no functions, so that any object may include it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace puna {

// Every type of matrix that has kernels, with ggml's number.
#define PUNA_TYPES(X) \
    X(F32, 0) X(F16, 1) X(BF16, 30) \
    X(Q4_0, 2) X(Q4_1, 3) X(Q5_0, 6) X(Q5_1, 7) X(Q8_0, 8) \
    X(Q2_K, 10) X(Q3_K, 11) X(Q4_K, 12) X(Q5_K, 13) X(Q6_K, 14) X(Q8_K, 15) \
    X(IQ1_S, 19) X(IQ1_M, 29) X(IQ2_XXS, 16) X(IQ2_XS, 17) X(IQ2_S, 22) X(IQ3_XXS, 18) X(IQ3_S, 21) \
    X(IQ4_NL, 20) X(IQ4_XS, 23) X(MXFP4, 39) X(NVFP4, 40) X(TQ1_0, 34) X(TQ2_0, 35) X(Q1_0, 41)

enum class Type : int32_t {
#define PUNA_NUMBER(name, number) name = number,
    PUNA_TYPES(PUNA_NUMBER)
#undef PUNA_NUMBER
};

constexpr int type_slots = 42;  // beyond the largest number

// What a weight of some type reads: plain floats, or int8 or int16 with one scale per 32; `q8_wide`: per wide_columns.
enum class ActKind : int32_t { f32, q8, q16, q8_wide };

constexpr bool is_q8(ActKind kind) { return kind == ActKind::q8 || kind == ActKind::q8_wide; }

constexpr int64_t panel_rows = 16;

}  // namespace puna
