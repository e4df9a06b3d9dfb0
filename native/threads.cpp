#include "threads.h"

#include <chrono>

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
    while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

std::atomic<uint32_t> forked{0};

}  // namespace

uint32_t forks() {
#if defined(__unix__) || defined(__APPLE__)
    [[maybe_unused]] static const int once = pthread_atfork(nullptr, nullptr, [] { forked.fetch_add(1); });
#endif
    return forked.load(std::memory_order_relaxed);
}

Pool::Pool(int threads) : threads_(std::max(1, threads)), shares_(new Share[2 * threads_]), phases_(new Phase[threads_]) {
    start();
}

void Pool::start() {
    const uint32_t epoch = epoch_.load(std::memory_order_relaxed);
    stop_ = false;
    try {
        for (int i = 1; i < threads_; i++) workers_.emplace_back([this, i, epoch] { work(i, epoch); });
    } catch (...) {  // the system has no room for so many
        stop();
        throw;
    }
    forks_ = forks();  // last: without workers the next run tries again
}

void Pool::stop() {
    stop_ = true;
    epoch_.fetch_add(1, std::memory_order_release);
    epoch_.notify_all();
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

void Pool::call(void (*fn)(void *ctx, int thread), void *ctx) {
    const std::lock_guard turn(running_);
    if (!has_workers()) forget_workers(), start();
    fn_ = fn;
    ctx_ = ctx;
    if (threads_ > 1) {
        epoch_.fetch_add(1, std::memory_order_release);
        epoch_.notify_all();
    }
    fn(ctx, 0);
    barrier(0);
}

void Pool::work(int thread, uint32_t seen) {
    for (;; seen++) {
        wait_for_change(epoch_, seen);
        if (stop_) return;
        fn_(ctx_, thread);
        barrier(thread);
    }
}

void Pool::barrier(int thread) {
    const uint32_t phase = phases_[thread].count;
    // The other set was last used before the previous barrier, so nobody is looking at it.
    shares_[((phase + 1) & 1) * threads_ + thread].taken.store(0, std::memory_order_relaxed);
    phases_[thread].count = phase + 1;
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<uint32_t>(threads_)) {
        arrived_.store(0, std::memory_order_relaxed);
        passed_.store(phase + 1, std::memory_order_release);
        if (threads_ > 1) passed_.notify_all();
    } else {
        wait_for_change(passed_, phase);
    }
}

}  // namespace puna
