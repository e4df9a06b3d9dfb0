// The matrix kernels and activation quantization with NEON dot products.
#include "quantize.h"
#include "vector.h"

namespace puna {

namespace neon { extern constexpr LinearKernels linear_kernels = linear_table<Neon, Quantizer>(); }

}  // namespace puna
