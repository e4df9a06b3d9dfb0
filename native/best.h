// The largest of many numbers, found in one pass.
#pragma once

#include <cstdint>
#include <vector>

namespace puna {

// Ids of the `count` largest values, largest first; of equals, the lower id first. No value is NaN.
std::vector<int64_t> best(const float *values, int64_t size, int64_t count);

}  // namespace puna
