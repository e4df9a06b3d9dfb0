// The names that packing, kernels and programs share; no functions, so that any object may include it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace puna {

// ggml's numbers.
enum class Type : int32_t {
    F32 = 0, F16 = 1, Q4_0 = 2, Q4_1 = 3, Q5_0 = 6, Q5_1 = 7, Q8_0 = 8,
    Q2_K = 10, Q3_K = 11, Q4_K = 12, Q5_K = 13, Q6_K = 14, Q8_K = 15, BF16 = 30,
};

// What a weight of some type reads: plain floats, or int8 with one scale per 32.
enum class ActKind : int32_t { f32, q8 };

constexpr int64_t panel_rows = 16;

}  // namespace puna
