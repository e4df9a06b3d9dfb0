// Small blocks of E2M1 floats with an 8-bit scale: MXFP4 and NVFP4 (drawn in src/puna/quants/microscaling.py).

#include <algorithm>
#include <cmath>

#include "quantize/codec.h"
#include "quantize/floats8.h"
#include "quantize/lanes.h"
#include "quantize/levels.h"

namespace puna::PUNA_ISA {
namespace {

// The E2M1 nearest to each of `size` values at half the scale; ties go to the smaller magnitude, -0 becomes 0.
template <int size> void nearest_e2m1(const float *x, float half_scale, uint8_t *quants) {
    typedef uint8_t Quants __attribute__((vector_size(W)));
    float bounds[7];
    for (int i = 0; i < 7; i++) {
        const bool reachable = half_scale != 0 && !std::isinf(doubled_e2m1[i + 1] * half_scale);
        bounds[i] = reachable ? (doubled_e2m1[i] + doubled_e2m1[i + 1]) / 2 * half_scale : HUGE_VALF;
    }
    for (int i = 0; i < size; i += W) {
        const F v = load(x + i), magnitude = absolute(v);
        I count = {};
        for (float bound : bounds) count -= magnitude > bound;
        const Quants q = __builtin_convertvector(count | ((v < 0) & (count > 0) & 8), Quants);
        std::memcpy(quants + i, &q, sizeof q);
    }
}

template <int size> float largest_magnitude(const float *x) {
    I most = {};
    for (int i = 0; i < size; i += W) most = larger(most, bits_of(load(x + i)) & 0x7fffffff);
    const F peaks = from_bits(most);
    float peak = 0;
    for (int i = 0; i < W; i++) peak = std::max(peak, float(peaks[i]));
    return peak;
}

}  // namespace

bool encode_mxfp4(const float *x, const float *, int64_t blocks, uint8_t *to) {
    for (; blocks--; x += 32, to += 17) {
        const float peak = largest_magnitude<32>(x);
        // rounded to F32 as ggml does, which lifts what is just below a power of 2; the byte wraps for denormals
        to[0] = peak == 0 ? 0 : uint8_t(int(std::floor(float(std::log2(double(peak)))) + 125));
        uint8_t quants[32];
        nearest_e2m1<32>(x, half_e8m0(to[0]), quants);
        for (int i = 0; i < 16; i++) to[1 + i] = uint8_t(quants[i] | quants[i + 16] << 4);
    }
    return true;
}

bool encode_nvfp4(const float *x, const float *, int64_t blocks, uint8_t *to) {
    bool stored = true;
    for (; blocks--; to += 36)
        for (int g = 0; g < 4; g++, x += 16) {
            const float scale = largest_magnitude<16>(x) / 6.0f;
            stored &= scale <= 448;
            to[g] = to_e4m3(scale);
            uint8_t quants[16];
            nearest_e2m1<16>(x, half_e4m3[to[g]], quants);
            for (int i = 0; i < 8; i++) to[4 + 8 * g + i] = uint8_t(quants[i] | quants[i + 8] << 4);
        }
    return stored;
}

}  // namespace puna::PUNA_ISA
