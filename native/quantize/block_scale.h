// The scales of a block's groups as small factors of one unit, as the IQ types with grids store them.
#pragma once

#include <algorithm>

#include "quantize/lanes.h"

namespace puna::PUNA_ISA {

// Expresses the scales of groups as unit times 2 * factor + 1, where `largest` is the largest; returns the unit.
inline float block_scale(const float *scale, int groups, int largest, int top, uint8_t *factor) {
    const float unit = *std::max_element(scale, scale + groups) / float(largest);
    for (int g = 0; g < groups; g++) {
        const int f = nearest(0.5f * (1.0f / unit * scale[g] - 1.0f));
        factor[g] = unit == 0 ? 0 : uint8_t(std::clamp(f, 0, top));
    }
    return unit;
}

}  // namespace puna::PUNA_ISA
