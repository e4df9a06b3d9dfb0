// How a packed weight lies in memory, the same for every instruction set.
//
// A panel is 16 rows. A "line" is 64 bytes: 4 consecutive columns of each of the 16 rows (row r at bytes 4r..4r+3), so
// a line feeds one 64-byte integer dot product. A panel is a stream of groups of columns, every part 64-byte aligned:
//
//     group = header, then for every 32 columns the bit planes of 8 lines (`bits` x 64 bytes), columns ascending
//
//     scales  group  header
//     d          64  f16 d[2 blocks][16 rows]
//     dm         32  f16 d[16], f16 m[16]
//     df        256  f32 d[16]
//     k32       256  f16 d[16], f16 -dmin[16], then per 32 columns: u8 scale[16], u8 min[16]
//     k16       256  f32 d[16], then per 16 columns: i8 scale[16]
//     k16m      256  f16 d[16], f16 -dmin[16], then per 16 columns: u8 (scale | min << 4)[16]
//     s32       256  f32 d[16], then per 32 columns: i8 scale[16]
//     e32       128  per 32 columns: E8M0 d[16], each 2^(byte - 128)
//     e16        64  per 16 columns: E4M3 d[16], each half of what the byte stands for
//
//     bits  planes, j is the line within 32 columns
//     8     8 lines of bytes
//     4     4 lines: low nibbles are line i, high nibbles line i + 4
//     2     2 lines: bits 2i of line h are line 4h + i
//     5     4, then one line whose bit j is bit 4 of line j
//     6     4, then two lines like 2, holding bits 4 and 5
//     3     2, then one line whose bit j is bit 2 of line j
//     1     one line whose bit j is line j
//
// Integers are unsigned with an offset: value = scale x (q - offset) + min; or they are indices of up to 4 bits, and
// the level found there takes the place of q - offset. Float weights of 32 bits: one column of 16 rows after the other.
//
// Float weights of 16 bits become int16 that share a power of two per 32 columns of a row (how is said in shorts.h):
// the panel's powers come first, u8[16] per 32 columns, then for every 32 columns 16 lines, each of 2 columns of the 16
// rows. Rows past n and columns past k are zero.
//
// Everything here has internal linkage: objects for different instruction sets must not share a copy of a function.
#pragma once

#include <cstdint>

#include "../quantize/levels.h"
#include "../types.h"

namespace puna {
namespace {

enum class Scales { none, power, d, dm, df, k32, k16, k16m, s32, e32, e16 };

struct Levels {
    int at[16];
};

constexpr Levels levels_from(const float (&values)[16]) {
    Levels levels{};
    for (int i = 0; i < 16; i++) levels.at[i] = static_cast<int>(values[i]);
    return levels;
}

// The levels of a grid's coordinates, then their negatives; those of IQ1 are g + 1/8 for g in -1, 0, 1, eightfold.
constexpr Levels iq4{levels_from(iq4_levels)}, e2m1{levels_from(doubled_e2m1)}, bit{{-1, 1}}, iq1{{-7, 1, 9}};
constexpr Levels iq1_both{{-7, 1, 9, 0, -9, -1, 7}}, iq2{{8, 25, 43, 0, -8, -25, -43}};
constexpr Levels iq3_xxs{{4, 12, 20, 28, 36, 44, 52, 62, -4, -12, -20, -28, -36, -44, -52, -62}};
constexpr Levels iq3_s{{1, 3, 5, 7, 9, 11, 13, 15, -1, -3, -5, -7, -9, -11, -13, -15}};

struct Layout {
    int bits;
    int offset;  // of the bytes that kernels multiply
    Scales scales;
    const Levels *levels = nullptr;  // what the integers stand for, where they are indices
};

// Levels as the bytes that kernels multiply: unsigned, the offset added.
struct Table {
    uint8_t at[16];
};

constexpr Table table_of(Layout layout) {
    Table table{};
    for (int i = 0; i < 16; i++) table.at[i] = static_cast<uint8_t>(layout.levels->at[i] + layout.offset);
    return table;
}

// The width of the bytes that kernels multiply.
constexpr int byte_bits(Layout layout) {
    if (!layout.levels) return layout.bits;
    int bits = 0;
    for (int i = 0; i < 1 << layout.bits; i++)
        while (table_of(layout).at[i] >> bits) bits++;
    return bits;
}

constexpr Layout layout_of(Type type) {
    switch (type) {
    case Type::F32: return {32, 0, Scales::none};
    case Type::F16: return {16, 0, Scales::power};
    case Type::BF16: return {16, 0, Scales::power};
    case Type::Q4_0: return {4, 8, Scales::d};
    case Type::Q4_1: return {4, 0, Scales::dm};
    case Type::Q5_0: return {5, 16, Scales::d};
    case Type::Q5_1: return {5, 0, Scales::dm};
    case Type::Q8_0: return {8, 128, Scales::d};
    case Type::Q2_K: return {2, 0, Scales::k16m};
    case Type::Q3_K: return {3, 4, Scales::k16};
    case Type::Q4_K: return {4, 0, Scales::k32};
    case Type::Q5_K: return {5, 0, Scales::k32};
    case Type::Q6_K: return {6, 32, Scales::k16};
    case Type::Q8_K: return {8, 128, Scales::df};
    case Type::IQ1_S: return {2, 8, Scales::s32, &iq1};
    case Type::IQ1_M: return {3, 16, Scales::k16, &iq1_both};
    case Type::IQ2_XXS: return {3, 64, Scales::s32, &iq2};
    case Type::IQ2_XS: return {3, 64, Scales::k16, &iq2};
    case Type::IQ2_S: return {3, 64, Scales::k16, &iq2};
    case Type::IQ3_XXS: return {4, 64, Scales::s32, &iq3_xxs};
    case Type::IQ3_S: return {4, 16, Scales::s32, &iq3_s};
    case Type::IQ4_NL: return {4, 128, Scales::d, &iq4};
    case Type::IQ4_XS: return {4, 128, Scales::s32, &iq4};
    case Type::MXFP4: return {4, 16, Scales::e32, &e2m1};
    case Type::NVFP4: return {4, 16, Scales::e16, &e2m1};
    case Type::TQ1_0: return {2, 1, Scales::df};
    case Type::TQ2_0: return {2, 1, Scales::df};
    case Type::Q1_0: return {1, 1, Scales::d, &bit};
    }
    return {0, 0, Scales::none};
}

constexpr ActKind act_kind_of(Scales scales) {
    switch (scales) {
    case Scales::none: return ActKind::f32;
    case Scales::power: return ActKind::q16;
    case Scales::k32: case Scales::k16: case Scales::k16m: case Scales::s32: return ActKind::q8_wide;
    default: return ActKind::q8;
    }
}

constexpr int group_columns(Scales scales) {
    switch (scales) {
    case Scales::none: return 1;
    case Scales::dm: case Scales::power: return 32;
    case Scales::d: case Scales::e16: return 64;
    case Scales::e32: return 128;
    default: return 256;
    }
}

constexpr int header_bytes(Scales scales) {
    switch (scales) {
    case Scales::none: case Scales::power: return 0;
    case Scales::k32: case Scales::k16: case Scales::k16m: return 320;
    case Scales::s32: return 192;
    default: return 64;
    }
}

// Whether the scale changes after 16 columns.
constexpr bool in_halves(Scales scales) {
    return scales == Scales::k16 || scales == Scales::k16m || scales == Scales::e16;
}

constexpr int float_panels_at_once = 4;  // with few activation rows; with many, half of it

constexpr int plane_bytes(int bits) { return 64 * bits; }  // per 32 columns

constexpr int64_t group_count(Layout layout, int64_t k) {
    return (k + group_columns(layout.scales) - 1) / group_columns(layout.scales);
}

// Of the powers of two at a panel's start.
constexpr int64_t power_bytes(int64_t groups) { return (groups * panel_rows + 63) / 64 * 64; }

constexpr int64_t panel_bytes(Layout layout, int64_t k) {
    if (layout.scales == Scales::none) return (k * panel_rows * (layout.bits / 8) + 63) / 64 * 64;
    if (layout.scales == Scales::power)
        return power_bytes(group_count(layout, k)) + group_count(layout, k) * plane_bytes(layout.bits);
    const int group = group_columns(layout.scales);
    return group_count(layout, k) * (header_bytes(layout.scales) + group / 32 * plane_bytes(layout.bits));
}

// Activations. t rows are cut into tiles of 16 rows, the rest into tiles of 8, 4, 2, 1; within a tile everything has a
// fixed place, so that kernels address it with constants. Where there are more than 16 rows of q8, tiles are of 4
// rows, the last padded with anything, and those of the first 256 columns lie before all of the next 256.
//
//     f32   per column: f32[width]
//     q8    per 32 columns (a multiple of four of these, zero beyond k):
//           i8 q[width][32], then 8 words of [width]: see Word; x = d q. q8_wide: the same d for wide_columns
//     q16   per 32 columns: i16 q[width][32], then f32 d[width]; x = d q
enum Word {
    word_d,      // f32 d
    word_sum,    // f32 sum of the 32
    word_n8,     // i32 -8 x sum of the 32
    word_n128,   // i32 -128 x sum of the 32
    word_n32,    // i32 -32 x sum of columns 0..15, and the next word of columns 16..31
    word_n32b,
    word_sum16,  // f32 sum of columns 0..15, and the next word of columns 16..31
    word_sum16b,
    word_count,
};

constexpr int record_bytes = 32 + 4 * word_count;  // of one row, 32 columns
constexpr int record16_bytes = 64 + 4;

// Types with blocks of 256 columns read activations that share a scale over so many: their products are weighed by the
// weight's scales first, and by the activations' once for all of these. llama.cpp has one scale per 256.
constexpr int wide_columns = 64;
constexpr int span_columns(ActKind kind) { return kind == ActKind::q8_wide ? wide_columns : 32; }

constexpr int64_t act_blocks(int64_t k) { return (k + 127) / 128 * 4; }

constexpr int64_t act_row_bytes(ActKind kind, int64_t k) {
    if (kind == ActKind::q16) return (k + 31) / 32 * record16_bytes;
    return is_q8(kind) ? act_blocks(k) * record_bytes : k * 4;
}

// The tile of row r among t: its width. Its first row is r rounded down to a multiple of it.
constexpr int tile_width(int64_t t, int64_t r) {
    int64_t start = t / 16 * 16;
    if (r < start) return 16;
    for (int width = 8; width > 1; width /= 2) {
        if ((t & width) == 0) continue;
        if (r < start + width) return width;
        start += width;
    }
    return 1;
}

constexpr int band_tile = 4;           // rows of activations
constexpr int band_blocks = 8;          // of 32 columns, which are unpacked at once
constexpr int64_t band_rows = 256;      // at most, and a multiple of band_tile
constexpr int64_t band_panels = 12;     // at most
constexpr int64_t band_scratch = 32768 + 4 * band_panels * panel_rows * band_rows;  // bytes

constexpr int64_t padded_rows(int64_t rows) { return (rows + band_tile - 1) / band_tile * band_tile; }

// Blocks of 32 columns in the activations' chunk that starts at column c.
constexpr int64_t chunk_blocks(int64_t k, int64_t c) {
    return act_blocks(k - c < 32 * band_blocks ? k - c : 32 * band_blocks);
}

}  // namespace

// One call of a kernel: `count` panels times one tile of rows.
struct TileJob {
    const uint8_t *panel;  // the first
    int64_t panel_bytes;
    int64_t count;
    int64_t last_rows;  // of the last panel of these, 1..16
    int64_t groups;     // per panel; columns for float weights
    const uint8_t *act;  // the tile's start
    float *y;            // the tile's first row, the first panel's first output
    int64_t y_stride;
    const float *bias;  // of the first output, or null
    bool add;
};

using TileKernel = void (*)(const TileJob &);

// `count` panels (at most band_panels) times `rows` rows of activations (at most band_rows).
struct BandJob {
    TileJob tile;          // `act`: of all rows; `y`: the first row's
    int64_t chunk_stride;  // bytes from one chunk of columns to the next
    int64_t first, rows;   // `first` is a multiple of band_tile
    uint8_t *scratch;  // band_scratch bytes
};

using Quantize = void (*)(const float *x, int64_t stride, int64_t rows, int64_t k, uint8_t *tile, int width, int first);

constexpr int tile_widths = 5;  // 1, 2, 4, 8, 16

struct LinearKernels {
    TileKernel tile[type_slots][tile_widths];
    void (*band[type_slots])(const BandJob &);  // for many rows, or null: all integer types or none
    // Rows of x into a tile of q8, q8_wide, q16: row j of x at x + j * stride goes to place first + j.
    Quantize quantize, quantize_wide, quantize16;
    // `rows` rows of stored 16-bit floats to a panel; every instruction set makes the same bytes.
    void (*pack_halves)(const uint8_t *src, int64_t rows, int64_t k, uint8_t *panel);
    void (*pack_bfloats)(const uint8_t *src, int64_t rows, int64_t k, uint8_t *panel);
};

}  // namespace puna
