// What one instruction set offers to find out how fast this machine can be at most: arithmetic, and reading.
#pragma once

#include <cstddef>
#include <cstdint>

namespace puna {

struct Peak {
    const char *name;       // int8, int16, bf16, f32
    double operations;      // of one round; a multiplication and an addition are two
    void (*run)(int64_t rounds);
    bool (*runs)();         // whether this machine has the instruction
};

struct LimitKernels {
    const Peak *peaks;
    int count;
    // Reads every byte once, as `streams` (1, 2, 4 or 8) equal parts side by side, prefetching `ahead` bytes; bytes
    // must be a multiple of 4096. The sum is of no use, but must be computed.
    uint64_t (*read)(const uint8_t *from, size_t bytes, int streams, int64_t ahead);
};

}  // namespace puna
