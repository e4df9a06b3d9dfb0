// The time, to measure how long something took.
#pragma once

#include <chrono>

namespace puna {

// Seconds since some moment; it never runs backwards.
inline double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace puna
