#include "grids.h"

#include <atomic>
#include <cstring>

namespace puna {
namespace {

constexpr size_t largest = 2048 * 8;
struct Grid {
    uint8_t levels[largest];
    std::atomic<bool> taken;
};
Grid grids[type_slots];

}  // namespace

size_t grid_bytes(Type type) {
    switch (type) {
    case Type::IQ1_S: case Type::IQ1_M: return largest;
    case Type::IQ2_XXS: return 256 * 8;
    case Type::IQ2_XS: return 512 * 8;
    case Type::IQ2_S: return 1024 * 8;
    case Type::IQ3_XXS: return 256 * 4;
    case Type::IQ3_S: return 512 * 4;
    default: return 0;
    }
}

const uint8_t *grid_of(Type type) {
    const Grid &grid = grids[static_cast<int>(type)];
    return grid.taken.load(std::memory_order_acquire) ? grid.levels : nullptr;
}

void take_grid(Type type, const uint8_t *levels) {
    Grid &grid = grids[static_cast<int>(type)];
    if (grid.taken.load(std::memory_order_acquire)) return;
    std::memcpy(grid.levels, levels, grid_bytes(type));
    grid.taken.store(true, std::memory_order_release);
}

}  // namespace puna
