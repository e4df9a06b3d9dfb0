// The grids of the IQ types as indices of levels: a byte per coordinate, point after point. Python has them
// (puna.quants.iq_tables) and hands over those that weights need; it knows no block.
#pragma once

#include <cstddef>
#include <cstdint>

#include "types.h"

namespace puna {

size_t grid_bytes(Type type);            // 0 for a type without a grid
const uint8_t *grid_of(Type type);       // null until it was taken
void take_grid(Type type, const uint8_t *levels);  // copies grid_bytes(type)

}  // namespace puna
