// The vector of the matrix kernels on 64-bit ARM: four rows of a line, a quarter of it. Included by objects that are
// compiled with dot products at least.
//
// Four columns of four rows times four activations are one instruction, which takes these from a quarter of a register:
// two loads serve 32 columns. Eight registers of weights, sixteen sums and what is in flight fill the 32.
#pragma once

#include <arm_neon.h>

#include "../sums.h"

namespace puna {
namespace {

struct Neon {
    static constexpr int lanes = 4, tile_rows = 16, float_rows = 4, float_sums = 16;
    template <Scales> static constexpr int side = 2;
    static constexpr bool signed_bytes = true;
    using Bytes = uint8x16_t;
    using Ints = int32x4_t;
    using Floats = float32x4_t;

    static PUNA_INLINE Bytes load(const uint8_t *p) { return vld1q_u8(p); }
    static PUNA_INLINE Bytes bytes(int value) { return vdupq_n_u8(static_cast<uint8_t>(value)); }
    static PUNA_INLINE Bytes band(Bytes a, Bytes b) { return vandq_u8(a, b); }
    static PUNA_INLINE Bytes bor(Bytes a, Bytes b) { return vorrq_u8(a, b); }
    template <int n> static PUNA_INLINE Bytes shl(Bytes a) { return vshlq_n_u8(a, n); }
    template <int n> static PUNA_INLINE Bytes shr(Bytes a) { return vshrq_n_u8(a, n); }
    // Entries of a table of 16 bytes, for indices below 16.
    static PUNA_INLINE Bytes lookup(Bytes index, const uint8_t *table) { return vqtbl1q_u8(vld1q_u8(table), index); }

    static PUNA_INLINE Ints zero_int() { return vdupq_n_s32(0); }
    static PUNA_INLINE Ints splat_int(const uint8_t *p) { return vld1q_dup_s32(reinterpret_cast<const int32_t *>(p)); }
    static PUNA_INLINE Ints add(Ints a, Ints b) { return vaddq_s32(a, b); }
    template <int n> static PUNA_INLINE Ints sar(Ints a) { return vshrq_n_s32(a, n); }
    template <int bits, int count, int side> static PUNA_INLINE void dot(Ints *sum, const Bytes *w, const uint8_t *q) {
#pragma GCC unroll 2
        for (int i = 0; i < count; i += 4) {
            const int8x16_t a = signed_of<bits>(w[i]), b = signed_of<bits>(w[i + 1]);
            const int8x16_t c = signed_of<bits>(w[i + 2]), d = signed_of<bits>(w[i + 3]);
            int8x16_t x[side];
#pragma GCC unroll 4
            for (int j = 0; j < side; j++) x[j] = vld1q_s8(reinterpret_cast<const int8_t *>(q) + 32 * j + 4 * i);
#pragma GCC unroll 4
            for (int j = 0; j < side; j++) sum[j] = vdotq_laneq_s32(sum[j], a, x[j], 0);
#pragma GCC unroll 4
            for (int j = 0; j < side; j++) sum[j] = vdotq_laneq_s32(sum[j], b, x[j], 1);
#pragma GCC unroll 4
            for (int j = 0; j < side; j++) sum[j] = vdotq_laneq_s32(sum[j], c, x[j], 2);
#pragma GCC unroll 4
            for (int j = 0; j < side; j++) sum[j] = vdotq_laneq_s32(sum[j], d, x[j], 3);
        }
    }

    static PUNA_INLINE void dot_pairs(Ints &sum, const uint8_t *line, const uint8_t *pair) {
        const int32x4_t w = vld1q_s32(reinterpret_cast<const int32_t *>(line));
        const int16x4_t x = vreinterpret_s16_s32(vld1_dup_s32(reinterpret_cast<const int32_t *>(pair)));
        sum = vmlal_lane_s16(vmlal_lane_s16(sum, vmovn_s32(w), x, 0), vshrn_n_s32(w, 16), x, 1);
    }

    static PUNA_INLINE Floats zero() { return vdupq_n_f32(0); }
    static PUNA_INLINE Floats splat(const uint8_t *p) { return vld1q_dup_f32(reinterpret_cast<const float *>(p)); }
    static PUNA_INLINE Floats to_float(Ints a) { return vcvtq_f32_s32(a); }
    static PUNA_INLINE Floats mul(Floats a, Floats b) { return vmulq_f32(a, b); }
    static PUNA_INLINE Floats addf(Floats a, Floats b) { return vaddq_f32(a, b); }
    static PUNA_INLINE Floats fma(Floats a, Floats b, Floats c) { return vfmaq_f32(c, a, b); }
    static PUNA_INLINE Floats load_f32(const void *p) { return vld1q_f32(static_cast<const float *>(p)); }
    static PUNA_INLINE Floats load_f16(const uint8_t *p) { return vcvt_f32_f16(vreinterpret_f16_u16(halves(p))); }
    static PUNA_INLINE Floats load_bf16(const uint8_t *p) { return vreinterpretq_f32_u32(vshll_n_u16(halves(p), 16)); }
    static PUNA_INLINE Floats load_u8(const uint8_t *p) {
        return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(small(p)))));
    }
    static PUNA_INLINE Floats load_i8(const uint8_t *p) {
        return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(small(p))))));
    }
    static PUNA_INLINE Floats load_power(const uint8_t *p) {
        return vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(vget_low_u16(vmovl_u8(small(p)))), 23));
    }
    static PUNA_INLINE Floats load_low4(const uint8_t *p) {
        return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vand_u8(small(p), vdup_n_u8(15))))));
    }
    static PUNA_INLINE Floats load_high4(const uint8_t *p) {
        return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vshr_n_u8(small(p), 4)))));
    }
    static PUNA_INLINE Floats load_e8m0(const uint8_t *p) {  // 2^(byte - 128); bytes 0 and 1 are denormals
        const int32x4_t e = vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(small(p))))), one = vdupq_n_s32(1);
        const int32x4_t denormal = vshlq_s32(vdupq_n_s32(0x00200000), vminq_s32(e, one));
        return vreinterpretq_f32_s32(vmaxq_s32(vshlq_n_s32(vsubq_s32(e, one), 23), denormal));
    }
    static PUNA_INLINE Floats load_e4m3(const uint8_t *p) {  // as f16, whose exponents are 8 larger, times 2^7
        const uint16x4_t half = vshl_n_u16(vget_low_u16(vmovl_u8(small(p))), 7);
        return vmulq_n_f32(vcvt_f32_f16(vreinterpret_f16_u16(half)), 128);
    }
    static PUNA_INLINE void store(float *p, Floats a) { vst1q_f32(p, a); }
    static PUNA_INLINE void prefetch(const uint8_t *p, int bytes) {
        for (int i = 0; i < bytes; i += 64) __builtin_prefetch(p + i);
    }

protected:
    // Below 128 a byte is the same with a sign; of 8 bits the offset is taken away.
    template <int bits> static PUNA_INLINE int8x16_t signed_of(Bytes w) {
        return vreinterpretq_s8_u8(bits < 8 ? w : veorq_u8(w, bytes(0x80)));
    }
    static PUNA_INLINE uint16x4_t halves(const uint8_t *p) { return vld1_u16(reinterpret_cast<const uint16_t *>(p)); }
    static PUNA_INLINE uint8x8_t small(const uint8_t *p) {
        uint32_t four;
        __builtin_memcpy(&four, p, 4);
        return vcreate_u8(four);
    }
};

}  // namespace
}  // namespace puna
