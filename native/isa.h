// Which instruction sets this processor and operating system can run. It does not know what is done with them.
#pragma once

#include <string_view>
#include <vector>

namespace puna {

// avx2: with FMA and F16C. avx512: F BW DQ VL and VNNI (Ice Lake, Zen 4 and later).
enum class Isa { generic, avx2, avx512 };

bool runs(Isa isa);                       // compiled in, and this machine can run it
Isa best_isa();                           // the last one that runs
std::vector<Isa> runnable_isas();         // in rising order; generic is always first
Isa parse_isa(std::string_view name);     // "generic" "avx2" "avx512" "auto"; std::invalid_argument where it does not run
std::string_view name_of(Isa isa);

}  // namespace puna
