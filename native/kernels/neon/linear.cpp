// The matrix kernels and activation quantization with NEON dot products.
#include "../tile.h"
#include "quantize.h"
#include "vector.h"

namespace puna {

extern constexpr LinearKernels neon_linear_kernels = [] {
    LinearKernels kernels = table<Neon>();
    kernels.quantize = quantize_tile<quantize_block>;
    return kernels;
}();

}  // namespace puna
