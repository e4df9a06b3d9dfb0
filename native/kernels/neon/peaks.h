// A loop of one instruction on 64-bit ARM, to measure how often the ports take it.
//
// A round is twelve registers that do not wait for each other; assembly, for a compiler would move them to memory or see
// that nobody wants the result.
#pragma once

#include "../limits_body.h"

#define ONE(name, n, to, from) name " v" #n "." to ", v30." from ", v31." from "\n"
#define TWELVE(name, to, from)                                                                                           \
    ONE(name, 0, to, from) ONE(name, 1, to, from) ONE(name, 2, to, from) ONE(name, 3, to, from) ONE(name, 4, to, from)   \
    ONE(name, 5, to, from) ONE(name, 6, to, from) ONE(name, 7, to, from) ONE(name, 8, to, from) ONE(name, 9, to, from)   \
    ONE(name, 10, to, from) ONE(name, 11, to, from)
#define PEAK(function, name, to, from)                                                                                   \
    void function(int64_t rounds) {                                                                                      \
        asm volatile("movi v30.4s, #0\n movi v31.4s, #0\n" ::: "v30", "v31");                                            \
        for (int64_t i = 0; i < rounds; i++)                                                                             \
            asm volatile(TWELVE(name, to, from)::: "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10",    \
                         "v11");                                                                                         \
    }
