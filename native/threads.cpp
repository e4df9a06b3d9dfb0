#include "threads.h"

#include <chrono>
#include <cmath>
#include <ctime>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace puna {
namespace {

constexpr int pauses_before_yield = 100;  // about 5 us where a pause takes 50 ns: longer than most waits at a barrier
constexpr auto awake = std::chrono::microseconds(1000);
constexpr double lately = 10e-3;       // seconds of runs that a judgement is made on
constexpr double most_missing = 0.4;   // cores: with fewer, one thread less would be the greater loss
constexpr double first_rest = 20e-3, longest_rest = 0.64, soon = 50e-3;

thread_local double slept = 0;  // seconds of this thread, waiting for others

void pause() {
#if defined(__x86_64__) || defined(_M_X64)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Returns once `value` is no longer `old`: spins, then yields, then sleeps.
void wait_for_change(const std::atomic<uint32_t> &value, uint32_t old) {
    for (int i = 0; i < pauses_before_yield; i++) {
        if (value.load(std::memory_order_acquire) != old) return;
        pause();
    }
    const auto deadline = std::chrono::steady_clock::now() + awake;
    do {
        for (int i = 0; i < 8; i++) {
            if (value.load(std::memory_order_acquire) != old) return;
            pause();
        }
        std::this_thread::yield();
    } while (std::chrono::steady_clock::now() < deadline);
    const double start = now();
    while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
    slept += now() - start;
}

double used_seconds([[maybe_unused]] double otherwise) {  // of a core, by this thread
#if defined(CLOCK_THREAD_CPUTIME_ID)
    timespec used;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used) == 0) return double(used.tv_sec) + 1e-9 * double(used.tv_nsec);
#endif
    return otherwise;
}

std::atomic<uint32_t> forked{0};

}  // namespace

uint32_t forks() {
#if defined(__unix__) || defined(__APPLE__)
    [[maybe_unused]] static const int once = pthread_atfork(nullptr, nullptr, [] { forked.fetch_add(1); });
#endif
    return forked.load(std::memory_order_relaxed);
}

Usage::Usage(double began) : began_(began), used_(used_seconds(began)), slept_(slept) {}

double Usage::lost() const {
    const double end = now();
    return end - began_ - (used_seconds(end) - used_) - (slept - slept_);
}

int FreeThreads::count(double now) {
    if (count_ < threads_ && now >= until_) {
        count_ = threads_;
        missing_ = 0;
    }
    return count_;
}

void FreeThreads::learn(double lost, double seconds, double now) {
    missing_ += (1 - std::exp(-seconds / lately)) * (lost / seconds - missing_);
    if (missing_ < most_missing || count_ == 1) return;
    if (count_ == threads_) rest_ = now - until_ < soon ? std::min(2 * rest_, longest_rest) : first_rest;
    until_ = now + rest_;
    count_ = std::max(1, count_ - std::max(1, int(missing_ + 0.5)));
    missing_ = 0;
}

Pool::Pool(int threads)
    : threads_(std::max(1, threads)), active_(threads_), free_(threads_), shares_(new Share[2 * threads_]),
      members_(new Member[threads_]) {
    start();
}

void Pool::start() {
    stop_ = false;
    try {
        for (int i = 1; i < threads_; i++) {
            const uint32_t seen = members_[i].turn.load(std::memory_order_relaxed);
            workers_.emplace_back([this, i, seen] { work(i, seen); });
        }
    } catch (...) {  // the system has no room for so many
        stop();
        throw;
    }
    forks_ = forks();  // last: without workers the next run tries again
}

void Pool::wake(int thread) {
    members_[thread].turn.fetch_add(1, std::memory_order_release);
    members_[thread].turn.notify_one();
}

void Pool::stop() {
    stop_ = true;
    for (int i = 1; i < threads_; i++) wake(i);
    for (auto &worker : workers_) worker.join();
    workers_.clear();
}

bool Pool::has_workers() const { return forks_ == forks(); }

void Pool::forget_workers() {
    for (auto &worker : workers_) worker.detach();  // they are not there to be joined
    workers_.clear();
}

Pool::~Pool() {
    has_workers() ? stop() : forget_workers();
}

// Threads that had no part in the last runs come to where the others are.
void Pool::activate(int active) {
    for (int i = 0; i < threads_; i++) members_[i].phase = members_[0].phase;
    for (int i = 0; i < 2 * threads_; i++) shares_[i].taken.store(0, std::memory_order_relaxed);
    active_ = active;
}

void Pool::call(int active, void (*fn)(void *ctx, int thread), void *ctx) {
    if (!has_workers()) forget_workers(), start();
    if (active != active_) activate(active);
    fn_ = fn;
    ctx_ = ctx;
    began_ = now();
    for (int i = 1; i < active; i++) wake(i);
    fn(ctx, 0);
    barrier(0);
}

void Pool::learn() {
    double lost = 0;
    for (int i = 0; i < active_; i++) lost += std::max(0.0, members_[i].lost);
    const double end = now();
    free_.learn(lost, end - began_, end);
}

void Pool::work(int thread, uint32_t seen) {
    for (;; seen++) {
        wait_for_change(members_[thread].turn, seen);
        if (stop_) return;
        fn_(ctx_, thread);
        barrier(thread);
    }
}

void Pool::barrier(int thread) {
    const uint32_t phase = members_[thread].phase;
    // The other set was last used before the previous barrier, so nobody is looking at it.
    shares_[((phase + 1) & 1) * threads_ + thread].taken.store(0, std::memory_order_relaxed);
    members_[thread].phase = phase + 1;
    const auto active = static_cast<uint32_t>(active_);  // read before the others may go on to another run
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == active) {
        arrived_.store(0, std::memory_order_relaxed);
        passed_.store(phase + 1, std::memory_order_release);
        if (active > 1) passed_.notify_all();
    } else {
        wait_for_change(passed_, phase);
    }
}

}  // namespace puna
