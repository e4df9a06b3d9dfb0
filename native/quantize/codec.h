// Quantization types: rows of floats to ggml's blocks and back, byte for byte as ggml's reference functions.
//
// Every source of this folder but module.cpp is compiled once for each instruction set, in the namespace
// puna::PUNA_ISA. frame.cpp cuts rows into chunks and calls the codecs that table.cpp lists. To add a type: two
// functions and a line there.
//
// The last bit depends on the order of ggml's operations. So a lane of a vector holds one block (or one group of it),
// and what happens within a lane happens in ggml's order; nothing is contracted to fma.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "isa.h"

namespace puna::quantize {

constexpr int64_t chunk = 4096;  // weights that an encoder gets: 16 blocks of 256, one for each lane of AVX-512

// Writes `blocks` blocks of finite `x` to `to`. `weights`: the importance of each weight, or null. Both hold `chunk`
// floats, zeros behind the last block, and `to` has room for a whole chunk: whole vectors may be computed and written.
// False where a scale is too large to be stored.
using Encode = bool (*)(const float *x, const float *weights, int64_t blocks, uint8_t *to);

// Writes the values of `blocks` blocks to `to`: any number of blocks, any alignment, nothing beyond the last.
using Decode = void (*)(const uint8_t *from, int64_t blocks, float *to);

struct Codec {
    std::string_view name;
    int64_t size, bytes;  // of a block: weights, bytes
    bool by_row;          // importance is multiplied by sqrt(mean square of the row + x^2) before `encode` sees it
    Encode encode;        // or null
    Decode decode;        // or null
    float largest = 0x1p36f;  // magnitude that is encoded: beyond, no F16 scale would do, and sums overflow
};

enum class Source : int { f32, f16, bf16 };

struct Rows {
    const uint8_t *from;  // rows * columns elements of `source`, any alignment
    Source source;
    int64_t rows, columns;
    const float *importance;  // of the columns, or null
    uint8_t *to;
};

struct Outcome {
    enum What : int { fine, not_finite, too_large } what;
    int64_t at;  // the first element of the chunk where that was found
};

struct Kernels {
    std::span<const Codec> codecs;
    Outcome (*encode)(const Codec &codec, const Rows &rows);
};

}  // namespace puna::quantize

namespace puna {
namespace generic { extern const quantize::Kernels quantize_kernels; }
namespace avx2 { extern const quantize::Kernels quantize_kernels; }
namespace avx512 { extern const quantize::Kernels quantize_kernels; }
}  // namespace puna
