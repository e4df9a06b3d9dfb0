// The matrix kernels with NEON's products of int8 matrices: two rows of 8 columns times two activation rows, twice the
// work of a dot product. Four columns of four rows lie in a register; with the next four columns beside them,
// interleaved, they are two such matrices. A single activation row keeps to dot products.
#include "../neon/quantize.h"
#include "../neon/vector.h"

namespace puna {
namespace {

struct NeonI8mm : Neon {
    template <int bits, int count, int side> static PUNA_INLINE void dot(Ints *sum, const Bytes *w, const uint8_t *q) {
        if constexpr (side != 2) return Neon::dot<bits, count, side>(sum, w, q);
        int32x4_t upper = vdupq_n_s32(0), lower = upper;  // rows 0, 1 and rows 2, 3; each with both activations
#pragma GCC unroll 4
        for (int i = 0; i < count; i += 2) {
            const int32x4_t a = vreinterpretq_s32_s8(signed_of<bits>(w[i]));
            const int32x4_t b = vreinterpretq_s32_s8(signed_of<bits>(w[i + 1]));
            const int8_t *x = reinterpret_cast<const int8_t *>(q) + 4 * i;
            const int8x16_t both = vcombine_s8(vld1_s8(x), vld1_s8(x + 32));
            upper = vmmlaq_s32(upper, vreinterpretq_s8_s32(vzip1q_s32(a, b)), both);
            lower = vmmlaq_s32(lower, vreinterpretq_s8_s32(vzip2q_s32(a, b)), both);
        }
        sum[0] = vaddq_s32(sum[0], vuzp1q_s32(upper, lower));
        sum[1] = vaddq_s32(sum[1], vuzp2q_s32(upper, lower));
    }
};

}  // namespace

namespace neon_i8mm { extern constexpr LinearKernels linear_kernels = linear_table<NeonI8mm, Quantizer>(); }

}  // namespace puna
