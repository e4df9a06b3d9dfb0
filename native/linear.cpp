#include "linear.h"

#include <algorithm>
#include <cstring>

#include "kernels/panels.h"

namespace puna {

namespace {

constexpr int64_t units_per_thread = 12;

int log2_of(int width) { return width == 16 ? 4 : width == 8 ? 3 : width == 4 ? 2 : width == 2 ? 1 : 0; }

// Tiles of t rows: the whole ones, then one per set bit of the rest.
int64_t tile_count(int64_t t) { return t / 16 + __builtin_popcountll(static_cast<uint64_t>(t % 16)); }

// Whether activations lie and products are made in bands of many rows.
bool in_bands(const LinearKernels &kernels, ActKind kind, int64_t t) {
    return is_q8(kind) && t > 16 && kernels.band[static_cast<int>(Type::Q8_0)];
}

// How a product is cut: units of `panels` panels times `tiles` tiles (or rows), those of the same panels in a row.
struct Cut {
    int64_t panels, tiles, bands, units;
};

// Whole multiples of the three panels that are done together.
Cut cut_bands(const Packed &weight, int64_t t, int threads) {
    const int64_t all = panels(weight.n), wanted = units_per_thread * threads;
    int64_t group = band_panels, bands = (t + band_rows - 1) / band_rows;
    const auto units = [&] { return (all + group - 1) / group * bands; };
    if (units() < wanted) group /= 2;
    while (units() < wanted && t / bands >= 64) bands++;
    if (units() < wanted) group /= 2;
    const int64_t rows = padded_rows((t + bands - 1) / bands);
    bands = (t + rows - 1) / rows;
    return {group, rows, bands, units()};
}

Cut cut(const LinearKernels &kernels, const Packed &weight, int64_t t, int threads) {
    if (in_bands(kernels, act_kind(weight.type), t)) return cut_bands(weight, t, threads);
    const int64_t bytes = panel_bytes(layout_of(weight.type), weight.k), all = panels(weight.n), tiles = tile_count(t);
    const int64_t wanted = units_per_thread * threads;
    const int64_t floats = t <= 4 ? float_panels_at_once : float_panels_at_once / 2;
    const int64_t least = is_q8(act_kind(weight.type)) ? 1 : floats;
    int64_t group = std::max(least, unit_bytes(t) / bytes);
    int64_t band = tiles;
    if (t > 4) {
        while (group > 4 && (all + group - 1) / group < wanted) group /= 2;
        while (band > 4 && (all + group - 1) / group * ((tiles + band - 1) / band) < wanted) band = (band + 1) / 2;
        while (group > least && (all + group - 1) / group * ((tiles + band - 1) / band) < wanted) group /= 2;
    }
    group = (group + least - 1) / least * least;
    const int64_t bands = (tiles + band - 1) / band;
    return {group, band, bands, (all + group - 1) / group * bands};
}

// The job of panels [first, end), from the first row on.
TileJob tile_job(const LinearJob &job, int64_t first, int64_t end) {
    const Packed &weight = *job.weight;
    const Layout layout = layout_of(weight.type);
    const int64_t bytes = panel_bytes(layout, weight.k);
    TileJob tile{};
    tile.panel = weight.data + first * bytes;
    tile.panel_bytes = bytes;
    tile.count = end - first;
    tile.last_rows = std::min(panel_rows, weight.n - (end - 1) * panel_rows);
    tile.groups = group_count(layout, weight.k);
    tile.act = static_cast<const uint8_t *>(job.act);
    tile.y = job.y + first * panel_rows;
    tile.y_stride = job.y_stride;
    tile.bias = job.bias ? job.bias + first * panel_rows : nullptr;
    tile.add = job.add;
    return tile;
}

// Panels [first, end) times tiles [first_tile, end_tile) of the t rows.
void run_tiles(const LinearKernels &kernels, const LinearJob &job, int64_t t, int64_t first, int64_t end,
               int64_t first_tile, int64_t end_tile) {
    TileJob tile = tile_job(job, first, end);
    const int64_t row_act = act_row_bytes(act_kind(job.weight->type), job.weight->k);
    int64_t row = std::min(first_tile * 16, t / 16 * 16);
    for (int64_t i = row / 16; i < first_tile; i++) row += tile_width(t, row);
    for (int64_t i = first_tile; i < end_tile; i++) {
        const int width = tile_width(t, row);
        tile.act = static_cast<const uint8_t *>(job.act) + row * row_act;
        tile.y = job.y + row * job.y_stride + first * panel_rows;
        kernels.tile[static_cast<int>(job.weight->type)][log2_of(width)](tile);
        row += width;
    }
}

// Panels [first, end) times rows [row, end_row) of the t rows, in bands.
void run_band(const LinearKernels &kernels, const LinearJob &job, int64_t t, int64_t first, int64_t end, int64_t row,
              int64_t end_row, uint8_t *scratch) {
    TileJob tile = tile_job(job, first, end);
    tile.y += row * job.y_stride;
    kernels.band[static_cast<int>(job.weight->type)](
        {tile, band_blocks * padded_rows(t) * record_bytes, row, end_row - row, scratch});
}

void run_unit(const LinearKernels &kernels, const LinearJob &job, int64_t t, const Cut &cut, int64_t unit,
              uint8_t *scratch) {
    const int64_t first = unit / cut.bands * cut.panels, end = std::min(panels(job.weight->n), first + cut.panels);
    const int64_t begin = unit % cut.bands * cut.tiles, stop = begin + cut.tiles;
    if (in_bands(kernels, act_kind(job.weight->type), t))
        run_band(kernels, job, t, first, end, begin, std::min(t, stop), scratch);
    else run_tiles(kernels, job, t, first, end, begin, std::min(tile_count(t), stop));
}

// Rows of x into the chunks of a band's layout, tile by tile.
void quantize_bands(Quantize quantize, const float *x, int64_t stride, int64_t row_begin, int64_t row_end,
                    int64_t t, int64_t k, uint8_t *act) {
    for (int64_t row = row_begin; row < row_end;) {
        const int64_t start = row / band_tile * band_tile, rows = std::min(row_end, start + band_tile) - row;
        for (int64_t c = 0; c < k; c += 32 * band_blocks)
            quantize(x + (row - row_begin) * stride + c, stride, rows, std::min<int64_t>(k - c, 32 * band_blocks),
                             act + padded_rows(t) * record_bytes * (c / 32) + start * record_bytes * chunk_blocks(k, c),
                             band_tile, static_cast<int>(row - start));
        row += rows;
    }
}

Quantize quantizer(const LinearKernels &kernels, ActKind kind) {
    if (kind == ActKind::q16) return kernels.quantize16;
    return kind == ActKind::q8_wide ? kernels.quantize_wide : kernels.quantize;
}

void spread_rows(const float *x, int64_t stride, int64_t rows, int64_t k, float *tile, int width, int64_t first) {
    for (int64_t c = 0; c < k; c++)
        for (int64_t j = 0; j < rows; j++) tile[c * width + first + j] = x[j * stride + c];
}

// How a tile of activations lies: after each other records, each the bytes of its rows, then their words.
struct Record {
    int64_t bytes, words;  // of one row; words of 4 bytes
};

Record record_of(ActKind kind) {
    if (kind == ActKind::q16) return {64, 1};
    return kind == ActKind::f32 ? Record{0, 1} : Record{32, word_count};
}

}  // namespace

size_t act_bytes(ActKind kind, int64_t t, int64_t k) {
    const int64_t rows = is_q8(kind) ? padded_rows(t) : t;
    return static_cast<size_t>((rows * act_row_bytes(kind, k) + 63) / 64 * 64);
}

void quantize_rows(const LinearKernels &kernels, ActKind kind, const float *x, int64_t stride, int64_t row_begin,
                   int64_t row_end, int64_t t, int64_t k, void *act) {
    if (in_bands(kernels, kind, t))
        return quantize_bands(quantizer(kernels, kind), x, stride, row_begin, row_end, t, k,
                              static_cast<uint8_t *>(act));
    for (int64_t row = row_begin; row < row_end;) {
        const int width = tile_width(t, row);
        const int64_t start = row / width * width, rows = std::min(row_end, start + width) - row;
        uint8_t *tile = static_cast<uint8_t *>(act) + start * act_row_bytes(kind, k);
        if (kind == ActKind::f32)
            spread_rows(x + (row - row_begin) * stride, stride, rows, k, reinterpret_cast<float *>(tile), width,
                        row - start);
        else
            quantizer(kernels, kind)(x + (row - row_begin) * stride, stride, rows, k, tile, width,
                                     static_cast<int>(row - start));
        row += rows;
    }
}

void place_row(const LinearKernels &kernels, ActKind kind, const void *alone, int64_t row, int64_t t, int64_t k,
               void *act) {
    const bool bands = in_bands(kernels, kind, t);
    const int64_t width = bands ? band_tile : tile_width(t, row), start = row / width * width, place = row - start;
    const int64_t columns = bands ? 32 * band_blocks : k;  // whose tiles lie together
    const Record record = record_of(kind);
    const auto *from = static_cast<const uint8_t *>(alone);
    for (int64_t c = 0; c < k; c += columns) {
        const int64_t bytes = act_row_bytes(kind, std::min(columns, k - c));
        const int64_t before = bands ? padded_rows(t) * act_row_bytes(kind, c) : 0;
        auto *to = static_cast<uint8_t *>(act) + before + start * bytes;
        for (const uint8_t *end = from + bytes; from < end; to += width * (record.bytes + 4 * record.words)) {
            std::memcpy(to + place * record.bytes, from, static_cast<size_t>(record.bytes));
            from += record.bytes;
            for (int64_t w = 0; w < record.words; w++, from += 4)
                std::memcpy(to + width * record.bytes + 4 * (w * width + place), from, 4);
        }
    }
}

int64_t linear_units(const LinearKernels &kernels, const Packed &weight, int64_t t, int threads) {
    return cut(kernels, weight, t, threads).units;
}

size_t linear_scratch() { return band_scratch; }

void linear(const LinearKernels &kernels, const LinearJob &job, int64_t t, int threads, int64_t unit_begin,
            int64_t unit_end, uint8_t *scratch) {
    const Cut pieces = cut(kernels, *job.weight, t, threads);
    for (int64_t unit = unit_begin; unit < unit_end; unit++) run_unit(kernels, job, t, pieces, unit, scratch);
}

void linear_panels(const LinearKernels &kernels, const LinearJob &job, int64_t t, int64_t panel_begin,
                   int64_t panel_end, uint8_t *scratch) {
    if (!in_bands(kernels, act_kind(job.weight->type), t))
        return run_tiles(kernels, job, t, panel_begin, panel_end, 0, tile_count(t));
    for (int64_t p = panel_begin; p < panel_end; p += band_panels)
        for (int64_t row = 0; row < t; row += band_rows)
            run_band(kernels, job, t, p, std::min(panel_end, p + band_panels), row, std::min(t, row + band_rows),
                     scratch);
}

}  // namespace puna
