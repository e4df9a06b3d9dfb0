// Activations to q8 on 64-bit ARM: one block of 32.
#pragma once

#include <arm_neon.h>

#include "../q8.h"
#include "../sums.h"

namespace puna {
namespace {

PUNA_INLINE void quantize_block(const float *x, int64_t count, uint8_t *q, uint8_t *words, int width) {
    float part[32];
    const float *source = x;
    if (count < 32) {
        for (int i = 0; i < 32; i++) part[i] = i < count ? x[i] : 0.0f;
        source = part;
    }
    float32x4_t v[8];
    uint32x4_t peaks = vdupq_n_u32(0);  // as integers, so that NaN sorts above infinity
    for (int i = 0; i < 8; i++) {
        v[i] = vld1q_f32(source + 4 * i);
        peaks = vmaxq_u32(peaks, vreinterpretq_u32_f32(vabsq_f32(v[i])));
    }
    const uint32_t bits = vmaxvq_u32(peaks);
    if (bits >= 0x7f800000u) return write_special(x, count, q, words, width);
    float peak;
    __builtin_memcpy(&peak, &bits, 4);
    const float scale = peak < tiny ? 0.0f : 127.0f / peak;
    int32x4_t ints[8];
    for (int i = 0; i < 8; i++) ints[i] = vcvtnq_s32_f32(vmulq_n_f32(v[i], scale));
    int32_t sums[2];
    for (int half = 0; half < 2; half++) {
        const int32x4_t *four = ints + 4 * half;
        const int16x8_t low = vcombine_s16(vmovn_s32(four[0]), vmovn_s32(four[1]));
        const int16x8_t high = vcombine_s16(vmovn_s32(four[2]), vmovn_s32(four[3]));
        vst1q_s8(reinterpret_cast<int8_t *>(q) + 16 * half, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
        sums[half] = vaddvq_s32(vaddq_s32(vaddq_s32(four[0], four[1]), vaddq_s32(four[2], four[3])));
    }
    write_words(words, width, peak < tiny ? 0.0f : peak / 127.0f, sums[0], sums[1]);
}

}  // namespace
}  // namespace puna
