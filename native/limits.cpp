// How fast this machine can be at most: arithmetic and reading. For `puna bench`; programs do not come through here.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <stdexcept>
#include <string>

#include "clock.h"
#include "kernels.h"
#include "threads.h"

namespace nb = nanobind;

namespace puna {

namespace {

using Bytes = nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

constexpr size_t read_unit = 4096;

template <class F> double timed(Pool &pool, F &&f) {
    const double start = now();
    pool.run(f);
    return now() - start;
}

std::vector<std::string> peak_names(const std::string &isa) {
    const LimitKernels &kernels = kernels_of(parse_isa(isa)).limits;
    std::vector<std::string> names;
    for (int i = 0; i < kernels.count; i++)
        if (kernels.peaks[i].runs()) names.emplace_back(kernels.peaks[i].name);
    return names;
}

const Peak &find_peak(const std::string &isa, const std::string &name) {
    const LimitKernels &kernels = kernels_of(parse_isa(isa)).limits;
    for (int i = 0; i < kernels.count; i++)
        if (name == kernels.peaks[i].name && kernels.peaks[i].runs()) return kernels.peaks[i];
    throw std::invalid_argument("measuring a peak: " + isa + " has no '" + name + "' on this machine");
}

// Operations a second of all threads together, the best of several rounds of about a fifth of a millisecond.
double time_peak(Pool &pool, const std::string &isa, const std::string &name, int rounds) {
    const Peak &peak = find_peak(isa, name);
    constexpr int64_t count = 50000;
    double best = 1e9;
    nb::gil_scoped_release release;
    for (int round = 0; round < rounds; round++)
        best = std::min(best, timed(pool, [&](int) { peak.run(count); }));
    return peak.operations * static_cast<double>(count) * pool.size() / best;
}

// Seconds of every round, each after the other with nothing between that would put other bytes in the caches. Once:
// threads that are faster take more, as kernels have it. Several `times`: each its own part again and again, in its own
// caches.
std::vector<double> time_reading(Pool &pool, const std::string &isa, Bytes memory, int64_t times, int streams,
                                 int64_t ahead, int rounds) {
    const LimitKernels &kernels = kernels_of(parse_isa(isa)).limits;
    const uint8_t *data = memory.data();
    const int64_t units = static_cast<int64_t>(memory.size() / read_unit);
    if (units < pool.size() || reinterpret_cast<uintptr_t>(data) % 64)
        throw std::invalid_argument("reading: memory must be aligned, with 4096 bytes for each thread or more");
    std::atomic<uint64_t> sink{0};
    const auto read = [&](int64_t first, int64_t end) {
        sink += kernels.read(data + size_t(first) * read_unit, size_t(end - first) * read_unit, streams, ahead);
    };
    std::vector<double> found;
    nb::gil_scoped_release release;
    for (int round = 0; round < rounds; round++)
        found.push_back(timed(pool, [&](int thread) {
            const int64_t threads = pool.size();
            if (times == 1) return pool.split(thread, units, read, 256);
            for (int64_t i = 0; i < times; i++) read(units * thread / threads, units * (thread + 1) / threads);
        }));
    return found;
}

}  // namespace

void bind_limits(nb::module_ &m) {
    m.def("peak_names", &peak_names, nb::arg("isa") = "auto");
    m.def("time_peak", &time_peak, nb::arg("pool"), nb::arg("isa"), nb::arg("name"), nb::arg("rounds") = 20);
    m.def("time_reading", &time_reading, nb::arg("pool"), nb::arg("isa"), nb::arg("memory"), nb::arg("times") = 1,
          nb::arg("streams") = 1, nb::arg("ahead") = 0, nb::arg("rounds") = 1);
}

}  // namespace puna
