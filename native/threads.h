// Threads: a pool of persistent workers that run one function together, with cheap barriers and dynamic splitting.
//
// It does not know what is computed. A step looks like this on every thread:
//
//     pool.split(thread, units, [&](int64_t begin, int64_t end) { ... });   // at most one split between two barriers
//     pool.barrier(thread);
//
// After a fork the child's pool has no workers, as only the thread that forked lives on there; its first run() starts
// new ones. A fork must not happen while another thread is in run().
//
// Idle workers spin for about a millisecond (yielding to whoever else wants the core), then sleep until their next run.
//
// A thread whose core another process uses holds up all others at every barrier: run_free() notices and goes on with
// fewer, and tries all of them again after 20 ms, then 40 ... 640 as long as that happens again.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

#include "clock.h"

namespace puna {

uint32_t forks();  // that this process is away from the one that first asked: threads of before are not here

// What a thread had of its core since `began`: what it did not wait for, asleep, and did not get was lost to others.
class Usage {
public:
    explicit Usage(double began);
    double lost() const;  // seconds; 0 where the system does not say

private:
    double began_, used_, slept_;
};

// How many threads to use: all, but for a while fewer after others had their cores.
class FreeThreads {
public:
    explicit FreeThreads(int threads) : threads_(threads), count_(threads) {}
    int count(double now);
    void learn(double lost, double seconds, double now);  // by all threads together, in a run of so many

private:
    const int threads_;
    int count_;
    double missing_ = 0;           // cores, lately
    double rest_ = 0, until_ = -1;  // seconds; the end of the last rest
};

class Pool {
public:
    explicit Pool(int threads);
    ~Pool();
    Pool(const Pool &) = delete;
    Pool &operator=(const Pool &) = delete;

    int size() const { return threads_; }
    int active() const { return active_; }  // threads of the current run

    // Calls f(thread) on every thread and returns when all have; the caller is thread 0. Runs from several threads (two
    // programs of one model) take turns. Not reentrant, and `f` must not throw.
    template <class F> void run(F &&f) {
        const std::lock_guard turn(running_);
        call(threads_, f);
    }

    // The same on threads 0 ... active() - 1: as many as seem to have a core to themselves.
    template <class F> void run_free(F &&f) {
        const std::lock_guard turn(running_);
        call(free_.count(now()), [&](int thread) {
            const Usage usage(began_);
            f(thread);
            members_[thread].lost = usage.lost();
        });
        learn();
    }

    // Waits until every thread of the current run is here. Every thread must make the same number of calls.
    void barrier(int thread);

    // Hands out [0, units) in pieces of `grain` or several: each thread first takes its own contiguous share, an eighth
    // of what is left at a time, then helps the others so. `f(begin, end)` is called with disjoint pieces; returns when
    // nothing is left to take (others may still be at work).
    template <class F> void split(int thread, int64_t units, F &&f, int64_t grain = 1) {
        Share *shares = shares_of_phase(thread);
        const int64_t pieces = (units + grain - 1) / grain;
        for (int i = 0; i < active_; i++) {
            const int owner = (thread + i) % active_;
            const int64_t first = pieces * owner / active_, end = pieces * (owner + 1) / active_;
            std::atomic<int64_t> &taken = shares[owner].taken;
            for (int64_t left; (left = end - first - taken.load(std::memory_order_relaxed)) > 0;) {
                const int64_t some = std::max<int64_t>(1, left / 8);
                const int64_t piece = first + taken.fetch_add(some, std::memory_order_relaxed);
                if (piece >= end) break;
                f(piece * grain, std::min(units, std::min(end, piece + some) * grain));
            }
        }
    }

private:
    struct alignas(64) Share {
        std::atomic<int64_t> taken{0};
    };
    struct alignas(64) Member {
        std::atomic<uint32_t> turn{0};  // one up per run that it takes part in
        uint32_t phase = 0;             // barriers passed by this thread; all active ones agree between barriers
        double lost = 0;                // seconds of the last run in which others had its core
    };

    Share *shares_of_phase(int thread) { return &shares_[(members_[thread].phase & 1) * threads_]; }
    template <class F> void call(int active, F &&f) {
        call(active, [](void *self, int thread) { (*static_cast<std::remove_reference_t<F> *>(self))(thread); }, &f);
    }
    void call(int active, void (*fn)(void *ctx, int thread), void *ctx);
    void activate(int active);
    void learn();  // what the last run says of the next ones
    void wake(int thread);
    void work(int thread, uint32_t seen);
    void start();  // std::system_error where the system starts no more threads
    void stop();
    bool has_workers() const;  // false in a child of the process that started them
    void forget_workers();

    const int threads_;
    int active_;
    FreeThreads free_;
    double began_ = 0;  // the current run
    std::mutex running_;
    std::unique_ptr<Share[]> shares_;  // two sets, used in turn: one is reset while the other is in use
    std::unique_ptr<Member[]> members_;
    alignas(64) std::atomic<uint32_t> arrived_{0};  // threads waiting in the barrier
    alignas(64) std::atomic<uint32_t> passed_{0};   // barriers completed
    void (*fn_)(void *, int) = nullptr;
    void *ctx_ = nullptr;
    bool stop_ = false;
    uint32_t forks_ = 0;  // of this process and those before it, when the workers were started
    std::vector<std::thread> workers_;
};

}  // namespace puna
