// A set is the folder of its name below kernels/, where each of these is defined once.
#include "kernels.h"

namespace puna {

#define PUNA_LINEAR                             \
    extern const LinearKernels linear_kernels;  \
    extern const LimitKernels limit_kernels;
#define PUNA_VECTORS                                  \
    extern const RowKernels row_kernels;              \
    extern const AttentionKernels attention_kernels;  \
    extern const RecurrentKernels recurrent_kernels;
#define PUNA_SET                                                                                                       \
    const KernelSet kernels{linear_kernels, row_kernels, attention_kernels, recurrent_kernels, limit_kernels};

namespace generic { PUNA_LINEAR PUNA_VECTORS PUNA_SET }
#if defined(PUNA_HAVE_AVX2)
namespace avx2 { PUNA_LINEAR PUNA_VECTORS PUNA_SET }
#endif
#if defined(PUNA_HAVE_AVX512)
namespace avx512 { PUNA_LINEAR PUNA_VECTORS PUNA_SET }
#endif
#if defined(PUNA_HAVE_NEON)
namespace neon { PUNA_LINEAR PUNA_VECTORS PUNA_SET }
#endif
#if defined(PUNA_HAVE_NEON_I8MM)
namespace neon_i8mm {  // it only adds instructions for matrices
using neon::row_kernels, neon::attention_kernels, neon::recurrent_kernels;
PUNA_LINEAR PUNA_SET
}  // namespace neon_i8mm
#endif

const KernelSet &kernels_of(Isa isa) {
    switch (isa) {
#if defined(PUNA_HAVE_AVX2)
    case Isa::avx2: return avx2::kernels;
#endif
#if defined(PUNA_HAVE_AVX512)
    case Isa::avx512: return avx512::kernels;
#endif
#if defined(PUNA_HAVE_NEON)
    case Isa::neon: return neon::kernels;
#endif
#if defined(PUNA_HAVE_NEON_I8MM)
    case Isa::neon_i8mm: return neon_i8mm::kernels;
#endif
    default: return generic::kernels;
    }
}

}  // namespace puna
