// F32, F16, BF16: one value per "block". Values need not be finite.

#include "quantize/codec.h"
#include "quantize/lanes.h"

namespace puna::PUNA_ISA {

bool encode_f32(const float *x, const float *, int64_t blocks, uint8_t *to) {
    std::memcpy(to, x, size_t(4 * blocks));
    return true;
}

// Overflows to infinity; every NaN becomes the quiet one of its sign.
bool encode_f16(const float *x, const float *, int64_t, uint8_t *to) {
    for (int64_t i = 0; i < quantize::chunk; i += W) {
        F v = load(x + i);
        const I bits = bits_of(v);
        v = from_bits(where((bits & 0x7fffffff) > 0x7f800000, (bits & INT32_MIN) | 0x7fc00000, bits));
#if defined(__AVX512F__)
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(to + 2 * i), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__AVX2__)
        _mm_storeu_si128(reinterpret_cast<__m128i *>(to + 2 * i), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
#else
        for (int k = 0; k < W; k++) store_half(to + 2 * (i + k), v[k]);
#endif
    }
    return true;
}

// Rounds to nearest even; a NaN keeps its upper bits and becomes quiet.
bool encode_bf16(const float *x, const float *, int64_t, uint8_t *to) {
    typedef uint16_t Halves __attribute__((vector_size(2 * W)));
    typedef uint32_t Bits __attribute__((vector_size(4 * W)));
    for (int64_t i = 0; i < quantize::chunk; i += W) {
        const Bits bits = (Bits)load(x + i), upper = bits >> 16;
        const Bits rounded = (bits + ((upper & 1) + 0x7fff)) >> 16;
        const Bits kept = (bits & 0x7fffffff) > 0x7f800000 ? upper | 64 : rounded;
        const Halves out = __builtin_convertvector(kept, Halves);
        std::memcpy(to + 2 * i, &out, sizeof out);
    }
    return true;
}

}  // namespace puna::PUNA_ISA
