// The Python module `puna.backends.cpu._native`: threads, packed weights and programs. Arrays come in as buffers that
// Python keeps alive; nothing is computed here.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <memory>
#include <stdexcept>

#include "attention.h"
#include "best.h"
#include "isa.h"
#include "linear.h"
#include "memory.h"
#include "packing.h"
#include "program.h"
#include "threads.h"

namespace nb = nanobind;
using namespace puna;

namespace puna {
void bind_linear(nb::module_ &m);
void bind_limits(nb::module_ &m);
}

namespace {

using Bytes = nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Source = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Input = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;

using Block = nb::ndarray<nb::numpy, uint8_t, nb::ndim<1>>;

// Aligned bytes, on huge pages where large; not zeroed where every byte will be written.
Block array_of_bytes(size_t bytes, bool zero) {
    uint8_t *memory = allocate(bytes).release();
    if (zero) std::memset(memory, 0, bytes);
    nb::capsule owner(memory, [](void *p) noexcept { FreeMemory()(static_cast<uint8_t *>(p)); });
    return {memory, {bytes}, owner};
}

// Zeros that take memory only where they are written, a small page at a time: for states, which fill slowly, and for
// arenas, planned for the largest batch.
Block array_of_zeros(size_t bytes) {
    constexpr size_t alignment = 64;
    void *memory = std::calloc(bytes + alignment, 1);
    if (!memory) throw std::bad_alloc();
    const size_t past = reinterpret_cast<uintptr_t>(memory) % alignment;
    nb::capsule owner(memory, [](void *p) noexcept { std::free(p); });
    return {static_cast<uint8_t *>(memory) + (alignment - past), {bytes}, owner};
}

using Logits = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Ids = nb::ndarray<nb::numpy, int64_t, nb::ndim<1>>;

Ids best_ids(Logits logits, int64_t count) {
    auto *found = new std::vector<int64_t>(best(logits.data(), int64_t(logits.size()), count));
    nb::capsule owner(found, [](void *p) noexcept { delete static_cast<std::vector<int64_t> *>(p); });
    return {found->data(), {found->size()}, owner};
}

struct Loading {  // weights being packed, and the arrays that are read and written
    std::vector<nb::object> keep;
    std::unique_ptr<Packing> packing;

    // jobs: (type, count, n, k, stored bytes, panels, whether the former are a mapped file's)
    Loading(nb::list jobs, int threads) {
        std::vector<PackJob> parsed;
        for (nb::handle item : jobs) {
            const int type = nb::cast<int>(item[0]);
            if (!is_linear_type(type))
                throw std::invalid_argument("packing: type " + std::to_string(type) + " has no kernel");
            // Arrays themselves: copies would be gone before they are read.
            const auto from = nb::cast<Source>(item[4], false);
            const auto to = nb::cast<Bytes>(item[5], false);
            const auto size = [&](int i) { return nb::cast<int64_t>(item[i]); };
            const PackJob job{Type(type), size(1), size(2), size(3), from.data(), to.data(), nb::cast<bool>(item[6])};
            if (job.count < 1 || job.n < 1 || job.k < 1 || job.k % block_size(job.type) ||
                from.size() != size_t(job.count * job.n) * row_bytes(job.type, job.k) ||
                to.size() != size_t(job.count) * packed_bytes(job.type, job.n, job.k))
                throw std::invalid_argument("packing: a buffer does not have the size of its matrices");
            keep.push_back(nb::borrow(item));
            parsed.push_back(job);
        }
        packing = std::make_unique<Packing>(std::move(parsed), threads);
    }

    bool wait(double seconds) {
        nb::gil_scoped_release release;
        return packing->wait(seconds);
    }
};

// ---- a program from Python's tuples

using Powers = std::vector<int64_t>;  // factor, then the powers of T, O and S

std::vector<Extent> extents(nb::handle list) {
    std::vector<Extent> out;
    for (const Powers &p : nb::cast<std::vector<Powers>>(list))
        out.push_back({p[0], int8_t(p[1]), int8_t(p[2]), int8_t(p[3])});
    return out;
}

Operand operand(nb::handle item) {  // None, or (storage, offset, element, shape, strides)
    Operand out;
    if (item.is_none()) return out;
    out.storage = nb::cast<int>(item[0]);
    out.offset = nb::cast<int64_t>(item[1]);
    out.element = Element(nb::cast<int>(item[2]));
    out.shape = extents(item[3]);
    out.strides = extents(item[4]);
    if (out.shape.size() > max_rank) throw std::invalid_argument("program: too many axes");
    return out;
}

std::vector<Step> steps_from(nb::list items) {  // (kernel, operands, ints, floats)
    std::vector<Step> steps;
    for (nb::handle item : items) {
        Step step;
        const std::string name = nb::cast<std::string>(item[0]);
        step.kernel = find_kernel(name);
        if (!step.kernel) throw std::invalid_argument("program: no kernel '" + name + "'");
        for (nb::handle o : nb::cast<nb::list>(item[1])) step.operands.push_back(operand(o));
        step.ints = nb::cast<std::vector<int64_t>>(item[2]);
        step.floats = nb::cast<std::vector<float>>(item[3]);
        steps.push_back(std::move(step));
    }
    return steps;
}

Schedule schedule_from(nb::handle item) {  // (places: (space, offset) by storage, phases: (own, shared))
    Schedule schedule;
    for (const auto &[space, offset] : nb::cast<std::vector<std::pair<int, int64_t>>>(item[0]))
        schedule.places.push_back({Place::Space(space), offset});
    for (const auto &[own, shared] : nb::cast<std::vector<std::pair<std::vector<int>, std::vector<int>>>>(item[1]))
        schedule.phases.push_back({own, shared});
    return schedule;
}

struct Loaded {  // a program, and the arrays that it reads and writes
    std::vector<nb::object> keep;
    std::unique_ptr<Program> program;
    std::vector<int> inputs;

    Loaded(Pool &pool, const std::string &isa, nb::list steps, nb::list outside, nb::list schedules,
           std::vector<int> input_storages, Bytes arena, Bytes own, int64_t own_stride)
        : inputs(std::move(input_storages)) {
        std::vector<uint8_t *> pointers;
        for (nb::handle array : outside) {
            uint8_t *pointer = nullptr;
            if (!array.is_none()) pointer = const_cast<uint8_t *>(nb::cast<Source>(array, false).data());
            pointers.push_back(pointer);
            keep.push_back(nb::borrow(array));
        }
        keep.push_back(nb::cast(arena));
        keep.push_back(nb::cast(own));
        std::vector<Schedule> parsed;
        for (nb::handle item : schedules) parsed.push_back(schedule_from(item));
        program = std::make_unique<Program>(pool, parse_isa(isa), steps_from(steps), std::move(pointers),
                                            std::move(parsed), arena.data(), own.data(), own_stride);
    }

    int run(int schedule, int64_t t, int64_t o, int64_t s, nb::list arrays) {
        if (arrays.size() != inputs.size()) throw std::invalid_argument("program: wrong number of inputs");
        for (size_t i = 0; i < inputs.size(); i++) {
            const Input array = nb::cast<Input>(arrays[i]);
            std::memcpy(program->at(schedule, inputs[i], 0), array.data(), array.nbytes());
        }
        nb::gil_scoped_release release;
        return program->run(schedule, {t, o, s});
    }
};

}  // namespace

NB_MODULE(_native, m) {
    m.doc() = "Kernels and program executor of the CPU backend.";
    m.def("allocate", array_of_bytes);
    m.def("zeros", array_of_zeros);
    m.def("best", best_ids, "Ids of the largest logits, largest first.");
    m.def("act_kind", [](int type) { return int(act_kind(Type(type))); });
    m.def("keeps_values", [](int type) { return keeps_values(Type(type)); });
    m.def("act_bytes", [](int kind, int64_t t, int64_t k) { return act_bytes(ActKind(kind), t, k); });
    m.def("packed_bytes", [](int type, int64_t n, int64_t k) { return packed_bytes(Type(type), n, k); });
    m.def("attention_plan_bytes", attention_plan_bytes);
    m.def("attention_partial_bytes", attention_partial_bytes);
    m.attr("ATTENTION_SLOTS") = attention_slots;
    m.attr("PAGE_SLOTS") = page_slots;

    nb::class_<Profile>(m, "Profile")
        .def_ro("seconds", &Profile::seconds)
        .def_ro("units", &Profile::units)
        .def_ro("waits", &Profile::waits);
    nb::class_<Loading>(m, "Packing", "Packs weights' stored bytes into their panels, in the background.")
        .def(nb::init<nb::list, int>())
        .def("wait", &Loading::wait, "Whether all is packed; waits so many seconds for it.")
        .def_prop_ro(
            "done", [](const Loading &loading) { return loading.packing->done(); }, "Stored bytes packed so far.");
    nb::class_<FreeThreads>(m, "FreeThreads", "How many threads a pool uses; for tests.")
        .def(nb::init<int>(), nb::arg("threads"))
        .def("count", &FreeThreads::count, nb::arg("now"))
        .def("learn", &FreeThreads::learn, nb::arg("lost"), nb::arg("seconds"), nb::arg("now"));
    nb::class_<Pool>(m, "Pool").def(nb::init<int>()).def_prop_ro("size", &Pool::size);
    nb::class_<Loaded>(m, "Program")
        .def(nb::init<Pool &, const std::string &, nb::list, nb::list, nb::list, std::vector<int>, Bytes, Bytes,
                      int64_t>(),
             nb::keep_alive<1, 2>())
        .def("run", &Loaded::run)
        .def_prop_ro("seconds", [](const Loaded &loaded) { return loaded.program->seconds(); })
        .def("profile", [](Loaded &loaded, bool on) { loaded.program->profile(on); })
        .def("profiles", [](const Loaded &loaded) { return loaded.program->profiles(); });
    bind_linear(m);
    bind_limits(m);
}
