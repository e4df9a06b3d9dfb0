// What the four bits of IQ4_NL and IQ4_XS stand for, and the doubles of what those of E2M1 do (ggml reads -0 as 0).
#pragma once

namespace puna {

constexpr float iq4_levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
constexpr float doubled_e2m1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

}  // namespace puna
