// The executor: runs a flat list of steps, lowered and planned in Python, on the threads of a pool.
//
// A step is a kernel and its operands. A schedule groups steps in phases: in each phase every thread first runs the
// *private* steps (tiny ones, done by all into memory of their own, because that is cheaper than waiting), then all
// threads share the units of the other steps; a barrier ends the phase. What may go together was decided in Python;
// here nothing is known of graphs.
#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>
#include <vector>

#include "kernels.h"
#include "threads.h"

namespace puna {

struct Sizes {  // of this run: tokens, rows whose outputs are wanted, sequences
    int64_t t = 0, o = 0, s = 0;
    bool operator==(const Sizes &) const = default;
};

struct Extent {  // factor * t^t_power * o^o_power * s^s_power
    int64_t factor = 0;
    int8_t t = 0, o = 0, s = 0;
    int64_t at(const Sizes &sizes) const;
};

enum class Element : int32_t { f32, i32, boolean, bytes };

// Part of a storage; offset in bytes, strides in elements. `storage` is -1 where an optional operand is absent.
struct Operand {
    int storage = -1;
    int64_t offset = 0;
    Element element = Element::f32;
    std::vector<Extent> shape, strides;
};

constexpr int max_rank = 6;

struct View {  // an operand in this run, on one thread
    uint8_t *data = nullptr;
    Element element = Element::f32;
    int rank = 0;
    int64_t shape[max_rank] = {}, strides[max_rank] = {};

    template <class T> T *as() const { return reinterpret_cast<T *>(data); }
};

struct Kernel;

struct Step {
    const Kernel *kernel = nullptr;
    std::vector<Operand> operands;
    std::vector<int64_t> ints;
    std::vector<float> floats;
};

struct Bound {  // a step in this run, on one thread
    const Step *step = nullptr;
    int index = 0;
    std::vector<View> views;

    int64_t integer(int i) const { return step->ints[size_t(i)]; }
    float number(int i) const { return step->floats[size_t(i)]; }
};

struct Run {  // what kernels may use
    Sizes sizes;
    int threads = 1;
    uint8_t *scratch = nullptr;  // of this thread
    const KernelSet &kernels;
    std::atomic<int> *fault = nullptr;  // index + 1 of a step that met an index outside its range

    void fail(const Bound &bound) const { fault->store(bound.index + 1, std::memory_order_relaxed); }
};

struct Kernel {
    std::string_view name;
    int64_t (*units)(const Bound &, const Run &);                        // pieces that threads may take in any order
    void (*run)(const Bound &, const Run &, int64_t begin, int64_t end);  // computes some of them
    void (*prepare)(Bound &) = nullptr;                                  // once after sizes changed
    size_t (*scratch)(const Step &) = nullptr;                           // bytes that a thread needs
};

const Kernel *find_kernel(std::string_view name);  // null where there is none
extern const std::vector<Kernel> core_kernels, matrix_kernels, expert_kernels, recurrent_step_kernels, row_step_kernels,
    attention_step_kernels;

struct Place {
    enum class Space : int32_t { arena, own, outside } space = Space::arena;  // own: one copy per thread
    int64_t offset = 0;
};

struct Phase {
    std::vector<int> own, shared;  // steps
};

struct Schedule {
    std::vector<Place> places;  // by storage
    std::vector<Phase> phases;
};

// Where the time of runs went, on one thread, since profiling began: seconds and units of each step, seconds of waiting
// at the end of each phase of each schedule.
struct Profile {
    std::vector<double> seconds;
    std::vector<int64_t> units;
    std::vector<std::vector<double>> waits;
};

class Program {
public:
    // `outside[i]` is where storage i lies if it is not planned. Arena and own memory stay the caller's.
    Program(Pool &pool, Isa isa, std::vector<Step> steps, std::vector<uint8_t *> outside,
            std::vector<Schedule> schedules, uint8_t *arena, uint8_t *own, int64_t own_stride);
    ~Program();
    Program(const Program &) = delete;
    Program &operator=(const Program &) = delete;

    int run(int schedule, const Sizes &sizes);  // 0, or the index + 1 of a step that failed
    uint8_t *at(int schedule, int storage, int thread) const;

    double seconds() const { return seconds_; }  // of the last run
    void profile(bool on);                       // from now on; forgets what was collected
    std::vector<Profile> profiles() const;       // one per thread

private:
    struct Thread {
        std::vector<Bound> bound;
        uint64_t version = 0;
        uint8_t *scratch = nullptr;
        Profile profile;
    };

    void resolve(Thread &thread, int index);
    template <bool profiled> void work(int thread);
    template <bool profiled> void share(const Phase &phase, const Run &run, Thread &own, int thread);

    Pool &pool_;
    const KernelSet &kernels_;
    const std::vector<Step> steps_;
    const std::vector<uint8_t *> outside_;
    const std::vector<Schedule> schedules_;
    uint8_t *const arena_, *const own_;
    const int64_t own_stride_;
    std::vector<Thread> threads_;
    Sizes sizes_;
    int schedule_ = -1;
    uint64_t version_ = 0;
    std::atomic<int> fault_{0};
    bool profiled_ = false;
    double seconds_ = 0;
};

}  // namespace puna
