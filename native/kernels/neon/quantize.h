// Activations to q8 on 64-bit ARM.
#pragma once

#include <arm_neon.h>

#include "../q8.h"

namespace puna {
namespace {

struct Quantizer {
    template <int blocks> static PUNA_INLINE uint32_t peak_bits(const float *x) {
        uint32x4_t peaks = vdupq_n_u32(0);
        for (int i = 0; i < 8 * blocks; i++)
            peaks = vmaxq_u32(peaks, vreinterpretq_u32_f32(vabsq_f32(vld1q_f32(x + 4 * i))));
        return vmaxvq_u32(peaks);
    }

    static PUNA_INLINE void convert(const float *x, float scale, uint8_t *q, int32_t sums[2]) {
        for (int half = 0; half < 2; half++) {
            int32x4_t four[4];
            for (int i = 0; i < 4; i++) four[i] = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 16 * half + 4 * i), scale));
            const int16x8_t low = vcombine_s16(vmovn_s32(four[0]), vmovn_s32(four[1]));
            const int16x8_t high = vcombine_s16(vmovn_s32(four[2]), vmovn_s32(four[3]));
            vst1q_s8(reinterpret_cast<int8_t *>(q) + 16 * half, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
            sums[half] = vaddvq_s32(vaddq_s32(vaddq_s32(four[0], four[1]), vaddq_s32(four[2], four[3])));
        }
    }
};

}  // namespace
}  // namespace puna
