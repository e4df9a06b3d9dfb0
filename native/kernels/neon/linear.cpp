// The matrix kernels and activation quantization with NEON dot products.
#include "quantize.h"
#include "vector.h"

namespace puna {

extern constexpr LinearKernels neon_linear_kernels = linear_table<Neon, Quantizer>();

}  // namespace puna
