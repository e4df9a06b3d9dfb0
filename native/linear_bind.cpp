// Python's view of the matrix kernels, for tests and benchmarks only; programs do not come through here.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <stdexcept>
#include <string>

#include "clock.h"
#include "grids.h"
#include "kernels.h"
#include "memory.h"
#include "packing.h"
#include "threads.h"

namespace nb = nanobind;

namespace puna {
namespace {

using Floats = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Ids = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Result = nb::ndarray<nb::numpy, float, nb::ndim<2>>;

struct Weight {
    Packed packed;
    Memory memory;
};

// One product on all threads; a barrier must follow before y is read.
class Product {
public:
    Product(const LinearKernels &kernels, Pool &pool) : kernels_(kernels), pool_(pool) {
        for (int i = 0; i < pool.size(); i++) scratch_.push_back(allocate(linear_scratch()));
    }
    void operator()(const LinearJob &job, int64_t t, int thread) const {
        pool_.split(thread, linear_units(kernels_, *job.weight, t, pool_.size()), [&](int64_t begin, int64_t end) {
            linear(kernels_, job, t, pool_.size(), begin, end, scratch_[static_cast<size_t>(thread)].get());
        });
    }

private:
    const LinearKernels &kernels_;
    Pool &pool_;
    std::vector<Memory> scratch_;
};

Type checked_type(int id) {
    if (!is_linear_type(id)) throw std::invalid_argument("linear: ggml type " + std::to_string(id) + " is unknown");
    return static_cast<Type>(id);
}

void take(int id, const Bytes &levels) {
    const Type type = static_cast<Type>(id);
    if (levels.size() != grid_bytes(type) || levels.size() == 0)
        throw std::invalid_argument("linear: " + std::to_string(levels.size()) + " bytes are not the grid of type " +
                                    std::to_string(id));
    take_grid(type, levels.data());
}

void check_raw(Type type, int64_t n, int64_t k, const Bytes &raw) {
    const int64_t block = block_size(type);
    if (n < 1 || k < 1 || k % block || raw.size() != static_cast<size_t>(n) * row_bytes(type, k))
        throw std::invalid_argument("linear: " + std::to_string(raw.size()) + " bytes are not " + std::to_string(n) +
                                    " rows of " + std::to_string(k) + " columns of this type");
}

Weight *pack_weight(int id, int64_t n, int64_t k, const Bytes &raw, int threads) {
    const Type type = checked_type(id);
    check_raw(type, n, k, raw);
    const size_t bytes = packed_bytes(type, n, k);
    Memory memory = allocate(bytes);
    {
        nb::gil_scoped_release release;
        Packing packing({{type, 1, n, k, raw.data(), memory.get(), false}}, threads);
        while (!packing.wait(1)) {}
    }
    return new Weight{{type, n, k, memory.get(), bytes}, std::move(memory)};
}

Result array_of(float *data, int64_t rows, int64_t columns) {
    nb::capsule owner(data, [](void *p) noexcept { delete[] static_cast<float *>(p); });
    return Result(data, {static_cast<size_t>(rows), static_cast<size_t>(columns)}, owner);
}

void check_input(const Weight &weight, const Floats &x) {
    if (x.ndim() != 2 || x.shape(1) != static_cast<size_t>(weight.packed.k) || x.shape(0) == 0)
        throw std::invalid_argument("linear: x must be (t, " + std::to_string(weight.packed.k) + ") with t > 0");
}

Result run_linear(const Weight &weight, const Floats &x, const std::string &isa, int threads,
                  std::optional<Floats> bias, std::optional<Floats> start) {
    check_input(weight, x);
    const int64_t t = static_cast<int64_t>(x.shape(0)), n = weight.packed.n, k = weight.packed.k;
    if (bias && bias->size() != static_cast<size_t>(n)) throw std::invalid_argument("linear: bias must be (n,)");
    if (start && start->size() != static_cast<size_t>(t * n))
        throw std::invalid_argument("linear: start must be (t, n)");
    const LinearKernels &kernels = kernels_of(parse_isa(isa)).linear;
    const ActKind kind = act_kind(weight.packed.type);
    Memory act = allocate(act_bytes(kind, t, k));
    auto *y = new float[static_cast<size_t>(t * n)]();
    if (start) std::copy(start->data(), start->data() + t * n, y);
    const LinearJob job{&weight.packed, act.get(), y, n, bias ? bias->data() : nullptr, start.has_value()};
    Pool pool(threads);
    const Product product(kernels, pool);
    pool.run([&](int thread) {
        pool.split(thread, t, [&](int64_t begin, int64_t end) {
            quantize_rows(kernels, kind, x.data() + begin * k, k, begin, end, t, k, act.get());
        }, 16);
        pool.barrier(thread);
        product(job, t, thread);
    });
    return array_of(y, t, n);
}

Result embed_packed(const Weight &weight, const Ids &ids) {
    if (!keeps_values(weight.packed.type)) throw std::invalid_argument("embed: panels of this type are rounded");
    for (size_t i = 0; i < ids.size(); i++)
        if (ids(i) < 0 || ids(i) >= weight.packed.n) throw std::out_of_range("embed: id beyond the rows");
    const auto count = static_cast<int64_t>(ids.size());
    auto *out = new float[static_cast<size_t>(count * weight.packed.k)];
    embed_rows(weight.packed, ids.data(), count, out, weight.packed.k);
    return array_of(out, count, weight.packed.k);
}

Result embed_raw(int id, const Bytes &raw, int64_t n, int64_t k, const Ids &ids) {
    const Type type = checked_type(id);
    check_raw(type, n, k, raw);
    for (size_t i = 0; i < ids.size(); i++)
        if (ids(i) < 0 || ids(i) >= n) throw std::out_of_range("embed: id beyond the rows");
    const auto count = static_cast<int64_t>(ids.size());
    auto *out = new float[static_cast<size_t>(count * k)];
    embed_rows(type, raw.data(), k, ids.data(), count, out, k);
    return array_of(out, count, k);
}

// Seconds of every round of y = x W^T for all weights in turn (all with the same k), inputs quantized once.
std::vector<double> time_linear(const std::vector<Weight *> &weights, int64_t t, const std::string &isa, int threads,
                                int rounds) {
    const LinearKernels &kernels = kernels_of(parse_isa(isa)).linear;
    if (weights.empty() || t < 1) throw std::invalid_argument("time_linear: nothing to do");
    const int64_t k = weights[0]->packed.k;
    const ActKind kind = act_kind(weights[0]->packed.type);
    int64_t n = 0;
    for (const Weight *weight : weights) {
        if (weight->packed.k != k || act_kind(weight->packed.type) != kind)
            throw std::invalid_argument("time_linear: the weights read different inputs");
        n = std::max(n, weight->packed.n);
    }
    std::vector<float> x(static_cast<size_t>(t * k)), y(static_cast<size_t>(t * n));
    for (size_t i = 0; i < x.size(); i++) x[i] = static_cast<float>(i % 255) - 127.0f;
    Memory act = allocate(act_bytes(kind, t, k));
    quantize_rows(kernels, kind, x.data(), k, 0, t, t, k, act.get());
    Pool pool(threads);
    const Product product(kernels, pool);
    std::vector<double> times;
    nb::gil_scoped_release release;
    for (int round = 0; round < rounds; round++) {
        const double start = now();
        pool.run([&](int thread) {
            for (const Weight *weight : weights) {
                const LinearJob job{&weight->packed, act.get(), y.data(), weight->packed.n};
                product(job, t, thread);
                pool.barrier(thread);
            }
        });
        times.push_back(now() - start);
    }
    return times;
}

// Seconds per barrier, best of a few hundred rounds.
double time_barrier(int threads) {
    Pool pool(threads);
    double best = 1;
    nb::gil_scoped_release release;
    for (int round = 0; round < 300; round++) {
        const double start = now();
        pool.run([&](int thread) {
            for (int i = 0; i < 100; i++) pool.barrier(thread);
        });
        best = std::min(best, (now() - start) / 100);
    }
    return best;
}

}  // namespace

void bind_linear(nb::module_ &m) {
    nb::class_<Weight>(m, "LinearWeight")
        .def_prop_ro("n", [](const Weight &w) { return w.packed.n; })
        .def_prop_ro("k", [](const Weight &w) { return w.packed.k; })
        .def_prop_ro("nbytes", [](const Weight &w) { return w.packed.bytes; });
    m.def("isas", [] {
        std::vector<std::string> names;
        for (Isa isa : runnable_isas()) names.emplace_back(name_of(isa));
        return names;
    });
    m.def("is_linear_type", &is_linear_type, nb::arg("ggml_id"));
    m.def("take_grid", &take, nb::arg("ggml_id"), nb::arg("levels"));
    m.def("linear_pack", &pack_weight, nb::arg("ggml_id"), nb::arg("n"), nb::arg("k"), nb::arg("raw"),
          nb::arg("threads") = 1);
    m.def("linear", &run_linear, nb::arg("weight"), nb::arg("x"), nb::arg("isa") = "auto", nb::arg("threads") = 1,
          nb::arg("bias") = nb::none(), nb::arg("start") = nb::none());
    m.def("linear_embed", &embed_packed, nb::arg("weight"), nb::arg("ids"));
    m.def("linear_embed_raw", &embed_raw, nb::arg("ggml_id"), nb::arg("raw"), nb::arg("n"), nb::arg("k"),
          nb::arg("ids"));
    m.def("time_linear", &time_linear, nb::arg("weights"), nb::arg("t"), nb::arg("isa") = "auto",
          nb::arg("threads") = 1, nb::arg("rounds") = 5);
    m.def("time_barrier", &time_barrier, nb::arg("threads") = 2);
}

}  // namespace puna
