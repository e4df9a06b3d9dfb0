// The Python module `puna.quants._native`: the codecs of one instruction set or another. Arrays come in as bytes; the
// GIL is released while they are worked on, so that several threads may each take some rows.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "isa.h"
#include "quantize/codec.h"
#include "quantize/lattice.h"

namespace nb = nanobind;
using namespace puna;
using namespace puna::quantize;

namespace {

using Bytes = nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Given = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Importance = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

const Kernels &kernels_of(const std::string &isa) {
    switch (parse_isa(isa)) {
#if defined(PUNA_HAVE_AVX512)
    case Isa::avx512: return avx512::quantize_kernels;
#endif
#if defined(PUNA_HAVE_AVX2)
    case Isa::avx2: return avx2::quantize_kernels;
#endif
    default: return generic::quantize_kernels;
    }
}

const Codec &codec_of(const Kernels &kernels, const std::string &name) {
    for (const Codec &codec : kernels.codecs)
        if (codec.name == name) return codec;
    throw std::invalid_argument("quantize: '" + name + "' has no native codec");
}

void require(bool condition, const char *what) {
    if (!condition) throw std::invalid_argument(std::string("quantize: ") + what);
}

std::pair<int, int64_t> encode(const std::string &name, const std::string &isa, int source, int64_t columns, Given from,
                               std::optional<Importance> importance, Bytes to) {
    const Kernels &kernels = kernels_of(isa);
    const Codec &codec = codec_of(kernels, name);
    require(codec.encode, "the type has no native encoder");
    require(source >= 0 && source <= 2, "unknown source");
    const int64_t row_bytes = columns * (Source(source) == Source::f32 ? 4 : 2);
    require(columns > 0 && columns % codec.size == 0, "the columns are no whole number of blocks");
    require(int64_t(from.size()) % row_bytes == 0, "the source is no whole number of rows");
    const Rows rows{from.data(), Source(source), int64_t(from.size()) / row_bytes, columns,
                    importance ? importance->data() : nullptr, to.data()};
    require(!importance || int64_t(importance->size()) == columns, "importance is of other columns");
    require(int64_t(to.size()) == rows.rows * columns / codec.size * codec.bytes, "the result has another size");
    nb::gil_scoped_release release;
    const Outcome outcome = kernels.encode(codec, rows);
    return {outcome.what, outcome.at};
}

void decode(const std::string &name, const std::string &isa, Given from, Floats to) {
    const Codec &codec = codec_of(kernels_of(isa), name);
    require(codec.decode, "the type has no native decoder");
    const int64_t blocks = int64_t(from.size()) / codec.bytes;
    require(int64_t(from.size()) % codec.bytes == 0, "the source is no whole number of blocks");
    require(int64_t(to.size()) == blocks * codec.size, "the result has another size");
    nb::gil_scoped_release release;
    codec.decode(from.data(), blocks, to.data());
}

template <class T> using Table = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

template <class T>
void copy(const Table<T> &from, std::vector<T> &to) {
    to.assign(from.data(), from.data() + from.size());
}

Lattice &named(const std::string &name) {
    const auto grid = grid_of(name);
    require(grid.has_value(), "the grid is unknown");
    return lattice(*grid);
}

// Tables are taken once: other threads may be reading them.
void take_points(const std::string &name, Table<int8_t> points) {
    if (Lattice &to = named(name); to.points.empty()) copy(points, to.points);
}

void take_lattice(const std::string &name, Table<uint16_t> codes, Table<uint16_t> index, Table<uint32_t> cells,
                  Table<uint16_t> near) {
    Lattice &to = named(name);
    if (!to.cells.empty()) return;
    copy(codes, to.codes);
    copy(index, to.index);
    copy(near, to.near);
    copy(cells, to.cells);
}

std::vector<std::string> names(bool encoding) {
    std::vector<std::string> found;
    for (const Codec &codec : generic::quantize_kernels.codecs)
        if (encoding ? codec.encode != nullptr : codec.decode != nullptr) found.emplace_back(codec.name);
    return found;
}

}  // namespace

NB_MODULE(_native, m) {
    m.doc() = "Encoders and decoders of quantization types.";
    m.def("isas", [] {
        std::vector<std::string> found;
        for (Isa isa : runnable_isas()) found.emplace_back(name_of(isa));
        return found;
    });
    m.def("encoders", [] { return names(true); });
    m.def("decoders", [] { return names(false); });
    m.def("encode", encode, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg().none(), nb::arg());
    m.def("decode", decode);
    m.def("take_points", take_points);
    m.def("take_lattice", take_lattice);
}
