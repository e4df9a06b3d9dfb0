// File bytes to panels and panels back to rows. Plain 32-bit words are enough: it runs at the speed of memory.
#include "blocks.h"
#include "kernels.h"

#include <vector>

namespace puna {
namespace {

void put(uint8_t *p, uint32_t word) { std::memcpy(p, &word, 4); }

// ---- planes: the 8 words of one row, 32 columns; `p` is the row's place in the first line

template <int bits> void write_planes(uint8_t *p, const uint32_t q[8]) {
    if constexpr (bits == 8)
        for (int i = 0; i < 8; i++) put(p + 64 * i, q[i]);
    if constexpr (bits == 4 || bits == 5 || bits == 6)
        for (int i = 0; i < 4; i++) put(p + 64 * i, (q[i] & 0x0f0f0f0fu) | (q[i + 4] & 0x0f0f0f0fu) << 4);
    if constexpr (bits == 2 || bits == 3 || bits == 6) {
        constexpr int from = bits == 6 ? 4 : 0;
        for (int h = 0; h < 2; h++) {
            uint32_t word = 0;
            for (int i = 0; i < 4; i++) word |= (q[4 * h + i] >> from & 0x03030303u) << 2 * i;
            put(p + 64 * h + (bits == 6 ? 256 : 0), word);
        }
    }
    if constexpr (bits == 3 || bits == 5) {
        uint32_t word = 0;
        for (int i = 0; i < 8; i++) word |= (q[i] >> (bits - 1) & 0x01010101u) << i;
        put(p + (bits == 3 ? 128 : 256), word);
    }
    if constexpr (bits == 1) {
        uint32_t word = 0;
        for (int i = 0; i < 8; i++) word |= q[i] << i;
        put(p, word);
    }
}

template <int bits> void read_planes(const uint8_t *p, uint32_t q[8]) {
    for (int i = 0; i < 8; i++) {
        if constexpr (bits == 8) q[i] = word_at(p + 64 * i);
        if constexpr (bits == 4 || bits == 5 || bits == 6)
            q[i] = word_at(p + 64 * (i % 4)) >> 4 * (i / 4) & 0x0f0f0f0fu;
        if constexpr (bits == 2 || bits == 3) q[i] = word_at(p + 64 * (i / 4)) >> 2 * (i % 4) & 0x03030303u;
        if constexpr (bits == 6) q[i] |= (word_at(p + 256 + 64 * (i / 4)) >> 2 * (i % 4) & 0x03030303u) << 4;
        if constexpr (bits == 5) q[i] |= (word_at(p + 256) >> i & 0x01010101u) << 4;
        if constexpr (bits == 3) q[i] |= (word_at(p + 128) >> i & 0x01010101u) << 2;
        if constexpr (bits == 1) q[i] = word_at(p) >> i & 0x01010101u;
    }
}

// ---- headers

// Of row r; `block` is the group's, or the first of several.
template <Type type> void write_header(const uint8_t *block, int subs, uint8_t *header, int64_t r) {
    constexpr Scales scales = layout_of(type).scales;
    constexpr int64_t step = columns_of(type) == 32 ? bytes_of(type) : 0;  // from one 32 columns to the next
    const uint8_t *d = block + scale_place(type);
    uint8_t *small = header + 64 + r;
    if constexpr (scales == Scales::d)
        for (int b = 0; b < subs; b++) std::memcpy(header + 32 * b + 2 * r, d + b * step, 2);
    if constexpr (scales == Scales::df || scales == Scales::k16 || scales == Scales::s32) {
        const float value = block_scale<type>(block);
        std::memcpy(header + 4 * r, &value, 4);
    }
    if constexpr (scales == Scales::dm || scales == Scales::k32 || scales == Scales::k16m) {
        std::memcpy(header + 2 * r, d, 2);
        std::memcpy(header + 32 + 2 * r, d + 2, 2);
        if constexpr (scales != Scales::dm) header[32 + 2 * r + 1] ^= 0x80;  // the sign of -dmin
    }
    if constexpr (scales == Scales::k32) {
        uint8_t scale[8], min[8];
        scales_and_mins(block + 4, scale, min);
        for (int i = 0; i < 8; i++) small[32 * i] = scale[i], small[32 * i + 16] = min[i];
    }
    if constexpr (scales == Scales::k16 || scales == Scales::s32) {
        constexpr int count = scales == Scales::k16 ? 16 : 8;
        int8_t scale[count];
        small_scales<type>(block, scale);
        for (int i = 0; i < count; i++) small[16 * i] = static_cast<uint8_t>(scale[i]);
    }
    if constexpr (scales == Scales::k16m)
        for (int i = 0; i < 16; i++) small[16 * i] = block[i];
    if constexpr (scales == Scales::e32)
        for (int b = 0; b < subs; b++) header[16 * b + r] = block[b * step];
    if constexpr (scales == Scales::e16)  // without signs; NaN, 0x7f, is read as 0
        for (int i = 0; i < 4; i++) header[16 * i + r] = block[i] == 0x7f ? 0 : block[i] & 0x7f;
}

// value = d * (q - offset) + m, for columns 0..15 and 16..31.
struct RowScales {
    float d[2], m[2];
};

template <Scales scales> RowScales read_header(const uint8_t *header, int b, int64_t r) {
    const auto scaled = [](float d, float m, int a, int a2, int low, int high) {
        return RowScales{{d * static_cast<float>(a), d * static_cast<float>(a2)},
                         {m * static_cast<float>(low), m * static_cast<float>(high)}};
    };
    const auto single = [](const uint8_t *p) {
        float value;
        std::memcpy(&value, p, 4);
        return value;
    };
    const auto factor = [](const uint8_t *p) { return static_cast<int>(static_cast<int8_t>(*p)); };
    const uint8_t *small = header + 64 + 32 * b + r, *d = header + 2 * r, *m = header + 32 + 2 * r;
    if constexpr (scales == Scales::d) return scaled(half_to_float(d + 32 * b), 0, 1, 1, 0, 0);
    if constexpr (scales == Scales::dm) return scaled(half_to_float(d), half_to_float(m), 1, 1, 1, 1);
    if constexpr (scales == Scales::df) return scaled(single(header + 4 * r), 0, 1, 1, 0, 0);
    if constexpr (scales == Scales::k16)
        return scaled(single(header + 4 * r), 0, factor(small), factor(small + 16), 0, 0);
    if constexpr (scales == Scales::s32) {
        const int both = factor(header + 64 + 16 * b + r);
        return scaled(single(header + 4 * r), 0, both, both, 0, 0);
    }
    if constexpr (scales == Scales::k32)
        return scaled(half_to_float(d), half_to_float(m), small[0], small[0], small[16], small[16]);
    if constexpr (scales == Scales::k16m)
        return scaled(half_to_float(d), half_to_float(m), small[0] & 15, small[16] & 15, small[0] >> 4, small[16] >> 4);
    if constexpr (scales == Scales::e32) return scaled(half_e8m0(header[16 * b + r]), 0, 1, 1, 0, 0);
    if constexpr (scales == Scales::e16)
        return {{half_e4m3(header[32 * b + r]), half_e4m3(header[32 * b + 16 + r])}, {0, 0}};
}

// ---- rows

template <Type type> void pack_group(const uint8_t *row, int64_t g, int64_t k, uint8_t *group, int64_t r) {
    constexpr Layout layout = layout_of(type);
    constexpr int columns = group_columns(layout.scales), size = static_cast<int>(columns_of(type));
    const uint8_t *block = row + g * columns / size * bytes_of(type);
    const int first = static_cast<int>(g * columns % size / 32);
    const int64_t left = k - g * columns;
    const int subs = static_cast<int>((left < columns ? left : columns) / 32);
    write_header<type>(block, subs, group, r);
    uint8_t *planes = group + header_bytes(layout.scales) + 4 * r;
    for (int sub = 0; sub < subs; sub++) {
        uint32_t q[8];
        if constexpr (size == 32) block_integers<type>(block + sub * bytes_of(type), 0, q);
        else block_integers<type>(block, first + sub, q);
        write_planes<layout.bits>(planes + sub * plane_bytes(layout.bits), q);
    }
}

template <Type type> void pack_rows(const uint8_t *src, int64_t rows, int64_t k, uint8_t *panel) {
    constexpr Layout layout = layout_of(type);
    const int64_t stride = k / columns_of(type) * bytes_of(type);
    if constexpr (layout.scales == Scales::none) {
        constexpr int size = layout.bits / 8;
        for (int64_t c = 0; c < k; c++)
            for (int64_t r = 0; r < rows; r++)
                std::memcpy(panel + (c * panel_rows + r) * size, src + r * stride + c * size, size);
    } else if constexpr (layout.scales == Scales::power) {
        static const LinearKernels &kernels = kernels_of(best_isa()).linear;  // all make the same bytes
        (type == Type::F16 ? kernels.pack_halves : kernels.pack_bfloats)(src, rows, k, panel);
    } else {
        const int64_t groups = group_count(layout, k), bytes = panel_bytes(layout, k) / groups;
        for (int64_t g = 0; g < groups; g++)
            for (int64_t r = 0; r < rows; r++) pack_group<type>(src + r * stride, g, k, panel + g * bytes, r);
    }
}

template <Type type> void unpack_row(const uint8_t *panel, int64_t r, int64_t k, float *out) {
    constexpr Layout layout = layout_of(type);
    if constexpr (layout.scales == Scales::none) {
        for (int64_t c = 0; c < k; c++) std::memcpy(out + c, panel + 4 * (c * panel_rows + r), 4);
    } else {
        constexpr int blocks = group_columns(layout.scales) / 32;
        const int64_t bytes = panel_bytes(layout, k) / group_count(layout, k);
        for (int64_t c = 0; c < k; c += 32) {
            const uint8_t *group = panel + c / 32 / blocks * bytes;
            const int b = static_cast<int>(c / 32 % blocks);
            const RowScales s = read_header<layout.scales>(group, b, r);
            uint32_t q[8];
            read_planes<layout.bits>(group + header_bytes(layout.scales) + b * plane_bytes(layout.bits) + 4 * r, q);
            for (int i = 0; i < 32; i++) {
                const int stored = static_cast<int>(q[i / 4] >> 8 * (i % 4) & 255);
                int value = stored - layout.offset;
                if constexpr (layout.levels != nullptr) value = layout.levels->at[stored];
                out[c + i] = s.d[i / 16] * static_cast<float>(value) + s.m[i / 16];
            }
        }
    }
}

template <Type type> void widen_row(const uint8_t *src, int64_t k, float *out) {
    for (int64_t c = 0; c < k; c++) {
        const uint8_t *p = src + 2 * c, wide[4] = {0, 0, p[0], p[1]};
        if constexpr (type == Type::F16) out[c] = half_to_float(p);
        else std::memcpy(out + c, wide, 4);
    }
}

struct TypeFunctions {
    void (*pack_rows)(const uint8_t *src, int64_t rows, int64_t k, uint8_t *panel);
    void (*unpack_row)(const uint8_t *panel, int64_t r, int64_t k, float *out);
};

template <Type type> constexpr TypeFunctions functions() {
    if constexpr (layout_of(type).scales == Scales::power) return {pack_rows<type>, nullptr};  // its panels are rounded
    else return {pack_rows<type>, unpack_row<type>};
}

TypeFunctions functions_of(Type type) {
    switch (type) {
#define PUNA_FUNCTIONS(name, number) case Type::name: return functions<Type::name>();
        PUNA_TYPES(PUNA_FUNCTIONS)
#undef PUNA_FUNCTIONS
    }
    return {};
}

}  // namespace

bool is_linear_type(int32_t ggml_id) {
    const Type type = static_cast<Type>(ggml_id);
    return functions_of(type).pack_rows && (!grid_bytes(type) || grid_of(type));
}

size_t row_bytes(Type type, int64_t k) { return static_cast<size_t>(k / columns_of(type) * bytes_of(type)); }
int64_t block_size(Type type) { return columns_of(type); }

ActKind act_kind(Type type) { return act_kind_of(layout_of(type).scales); }
bool keeps_values(Type type) { return functions_of(type).unpack_row != nullptr; }

int64_t panels(int64_t n) { return (n + panel_rows - 1) / panel_rows; }

size_t packed_bytes(Type type, int64_t n, int64_t k) {
    return static_cast<size_t>(panels(n) * panel_bytes(layout_of(type), k));
}

void pack(Type type, int64_t n, int64_t k, const uint8_t *src, uint8_t *dst, int64_t panel_begin, int64_t panel_end) {
    const Layout layout = layout_of(type);
    const int64_t bytes = panel_bytes(layout, k), stride = static_cast<int64_t>(row_bytes(type, k));
    const auto pack_rows = functions_of(type).pack_rows;
    for (int64_t p = panel_begin; p < panel_end; p++) {
        const int64_t first = p * panel_rows, rows = n - first < panel_rows ? n - first : panel_rows;
        uint8_t *panel = dst + p * bytes;
        if (rows < panel_rows || k % group_columns(layout.scales) != 0 || layout.scales == Scales::none)
            std::memset(panel, 0, static_cast<size_t>(bytes));
        pack_rows(src + first * stride, rows, k, panel);
    }
}

void embed_rows(const Packed &weight, const int32_t *ids, int64_t count, float *out, int64_t out_stride) {
    const int64_t bytes = panel_bytes(layout_of(weight.type), weight.k);
    const auto unpack_row = functions_of(weight.type).unpack_row;
    for (int64_t i = 0; i < count; i++)
        unpack_row(weight.data + ids[i] / panel_rows * bytes, ids[i] % panel_rows, weight.k, out + i * out_stride);
}

// Through a panel of one row: lookups are too few for a second set of readers.
void embed_rows(Type type, const uint8_t *src, int64_t k, const int32_t *ids, int64_t count, float *out,
                int64_t out_stride) {
    const auto functions = functions_of(type);
    const auto stride = static_cast<int64_t>(row_bytes(type, k));
    if (!keeps_values(type)) {
        const auto widen = type == Type::F16 ? widen_row<Type::F16> : widen_row<Type::BF16>;
        for (int64_t i = 0; i < count; i++) widen(src + ids[i] * stride, k, out + i * out_stride);
        return;
    }
    std::vector<uint8_t> panel(static_cast<size_t>(panel_bytes(layout_of(type), k)));
    for (int64_t i = 0; i < count; i++) {
        functions.pack_rows(src + ids[i] * stride, 1, k, panel.data());
        functions.unpack_row(panel.data(), 0, k, out + i * out_stride);
    }
}

}  // namespace puna
