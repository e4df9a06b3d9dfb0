#include "program.h"

#include <new>

#include "clock.h"

namespace puna {

namespace {

constexpr std::align_val_t line{64};

int64_t power(int64_t base, int n) {
    int64_t out = 1;
    for (int i = 0; i < n; i++) out *= base;
    return out;
}

// Runs some units of a step, and notes their time where that is wanted.
template <bool profiled>
void run_units(const Bound &bound, const Run &run, int64_t begin, int64_t end, Profile &profile) {
    const double start = profiled ? now() : 0;
    bound.step->kernel->run(bound, run, begin, end);
    if (profiled) {
        profile.seconds[size_t(bound.index)] += now() - start;
        profile.units[size_t(bound.index)] += end - begin;
    }
}

size_t scratch_bytes(const std::vector<Step> &steps) {
    size_t most = 64;
    for (const Step &step : steps) {
        if (step.kernel->scratch) most = std::max(most, step.kernel->scratch(step));
    }
    return (most + 63) / 64 * 64;
}

}  // namespace

int64_t Extent::at(const Sizes &sizes) const {
    return factor * power(sizes.t, t) * power(sizes.o, o) * power(sizes.s, s);
}

const Kernel *find_kernel(std::string_view name) {
    for (const auto *kernels : {&core_kernels, &matrix_kernels, &expert_kernels, &recurrent_step_kernels,
                                &row_step_kernels, &attention_step_kernels}) {
        for (const Kernel &kernel : *kernels) {
            if (kernel.name == name) return &kernel;
        }
    }
    return nullptr;
}

Program::Program(Pool &pool, Isa isa, std::vector<Step> steps, std::vector<uint8_t *> outside,
                 std::vector<Schedule> schedules, uint8_t *arena, uint8_t *own, int64_t own_stride)
    : pool_(pool),
      kernels_(kernels_of(isa)),
      steps_(std::move(steps)),
      outside_(std::move(outside)),
      schedules_(std::move(schedules)),
      arena_(arena),
      own_(own),
      own_stride_(own_stride),
      threads_(size_t(pool.size())) {
    const size_t scratch = scratch_bytes(steps_);
    for (Thread &thread : threads_) {
        thread.bound.resize(steps_.size());
        thread.scratch = static_cast<uint8_t *>(::operator new(scratch, line));
    }
}

Program::~Program() {
    for (Thread &thread : threads_) ::operator delete(thread.scratch, line);
}

uint8_t *Program::at(int schedule, int storage, int thread) const {
    const Place &place = schedules_[size_t(schedule)].places[size_t(storage)];
    if (place.space == Place::Space::outside) return outside_[size_t(storage)];
    if (place.space == Place::Space::own) return own_ + thread * own_stride_ + place.offset;
    return arena_ + place.offset;
}

void Program::resolve(Thread &thread, int index) {
    for (size_t i = 0; i < steps_.size(); i++) {
        const Step &step = steps_[i];
        Bound &bound = thread.bound[i];
        bound.step = &step;
        bound.index = int(i);
        bound.views.resize(step.operands.size());
        for (size_t j = 0; j < step.operands.size(); j++) {
            const Operand &operand = step.operands[j];
            View &view = bound.views[j] = View{};
            if (operand.storage < 0) continue;
            view.data = at(schedule_, operand.storage, index) + operand.offset;
            view.element = operand.element;
            view.rank = int(operand.shape.size());
            for (size_t d = 0; d < operand.shape.size(); d++) {
                view.shape[d] = operand.shape[d].at(sizes_);
                view.strides[d] = operand.strides[d].at(sizes_);
            }
        }
        if (step.kernel->prepare) step.kernel->prepare(bound);
    }
    thread.version = version_;
}

int Program::run(int schedule, const Sizes &sizes) {
    if (schedule != schedule_ || sizes != sizes_) {
        schedule_ = schedule;
        sizes_ = sizes;
        version_++;
    }
    fault_.store(0, std::memory_order_relaxed);
    const double start = now();
    if (profiled_) pool_.run_free([this](int thread) { work<true>(thread); });
    else pool_.run_free([this](int thread) { work<false>(thread); });
    seconds_ = now() - start;
    return fault_.load(std::memory_order_relaxed);
}

void Program::profile(bool on) {
    profiled_ = on;
    for (Thread &thread : threads_) {
        thread.profile = {std::vector<double>(steps_.size()), std::vector<int64_t>(steps_.size()), {}};
        for (const Schedule &schedule : schedules_) thread.profile.waits.emplace_back(schedule.phases.size());
    }
}

std::vector<Profile> Program::profiles() const {
    std::vector<Profile> found;
    for (const Thread &thread : threads_) found.push_back(thread.profile);
    return found;
}

template <bool profiled> void Program::work(int thread) {
    Thread &own = threads_[size_t(thread)];
    if (own.version != version_) resolve(own, thread);
    const Run run{sizes_, pool_.active(), own.scratch, kernels_, &fault_};
    const std::vector<Phase> &phases = schedules_[size_t(schedule_)].phases;
    for (size_t i = 0; i < phases.size(); i++) {
        for (const int index : phases[i].own) {
            const Bound &bound = own.bound[size_t(index)];
            run_units<profiled>(bound, run, 0, bound.step->kernel->units(bound, run), own.profile);
        }
        if (!phases[i].shared.empty()) share<profiled>(phases[i], run, own, thread);
        if (i + 1 == phases.size()) break;
        const double start = profiled ? now() : 0;
        pool_.barrier(thread);
        if (profiled) own.profile.waits[size_t(schedule_)][i] += now() - start;
    }
}

template <bool profiled> void Program::share(const Phase &phase, const Run &run, Thread &own, int thread) {
    int64_t units = 0;
    for (const int index : phase.shared) {
        const Bound &bound = own.bound[size_t(index)];
        units += bound.step->kernel->units(bound, run);
    }
    pool_.split(thread, units, [&](int64_t begin, int64_t end) {
        int64_t before = 0;
        for (const int index : phase.shared) {
            const Bound &bound = own.bound[size_t(index)];
            const int64_t count = bound.step->kernel->units(bound, run);
            const int64_t first = std::max(begin, before) - before, last = std::min(end, before + count) - before;
            if (first < last) run_units<profiled>(bound, run, first, last, own.profile);
            before += count;
            if (before >= end) break;
        }
    });
}

}  // namespace puna
