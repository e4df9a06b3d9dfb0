// The grids of the IQ types, which Python hands over before it uses them (quants/iq_tables.py and iq_search.py make
// them): what decoders and searches look up. It knows no block.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace puna {

// A code spells the levels of a point or of any cell of the lattice: 2 bits for each of 8 coordinates in the IQ1 and
// IQ2 types, 3 bits for each of 4 in IQ3, first coordinate lowest.
struct Lattice {
    std::vector<int8_t> points;    // (points, coordinates), as values
    std::vector<uint16_t> codes;   // of each point
    std::vector<uint16_t> index;   // of each code that is a point
    std::vector<uint32_t> cells;   // of each code: 0 for a point, else first << 9 | count; 16 * first: place in `near`
    std::vector<uint16_t> near;    // codes of a cell's neighbours, nearest first; the first repeated up to 16
};

enum class Grid { IQ1_S, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S };  // IQ1_M shares that of IQ1_S

constexpr std::string_view grid_names[] = {"IQ1_S", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"};

inline std::optional<Grid> grid_of(std::string_view name) {
    for (size_t i = 0; i < std::size(grid_names); i++)
        if (grid_names[i] == name) return Grid(i);
    return {};
}

inline Lattice &lattice(Grid grid) {
    static Lattice lattices[std::size(grid_names)];
    return lattices[size_t(grid)];
}

}  // namespace puna
