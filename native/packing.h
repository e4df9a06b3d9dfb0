// Weights on their way into panels: many at once, by threads of their own, while the program around them is made.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "threads.h"
#include "types.h"

namespace puna {

struct PackJob {  // `count` matrices of n rows and k columns, one after the other
    Type type;
    int64_t count, n, k;
    const uint8_t *from;
    uint8_t *to;
    bool mapped;  // `from` is a mapped file's: its pages are given back when they are read
};

class Packing {
public:
    Packing(std::vector<PackJob> jobs, int threads);  // begins at once
    ~Packing();                                       // gives up what has not begun
    Packing(const Packing &) = delete;
    Packing &operator=(const Packing &) = delete;

    bool wait(double seconds);  // whether all is packed; waits so long for it. std::runtime_error after a fork
    int64_t done() const { return done_.load(std::memory_order_relaxed); }  // bytes read

private:
    struct Piece {
        const PackJob *job;
        int64_t matrix, begin, end;  // panels
    };

    void work();
    void pack_piece(const Piece &piece);

    const uint32_t forks_ = forks();
    const std::vector<PackJob> jobs_;
    std::vector<Piece> pieces_;
    std::atomic<size_t> next_{0};
    std::atomic<int64_t> done_{0};
    std::mutex mutex_;
    std::condition_variable finished_;
    size_t left_;  // pieces
    std::vector<std::thread> workers_;
};

}  // namespace puna
