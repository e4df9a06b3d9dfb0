// Which instruction sets this processor and operating system can run. It does not know what is done with them.
#pragma once

#include <string_view>
#include <vector>

namespace puna {

// avx2: with FMA, F16C and BMI2. avx512: F BW DQ VL and VNNI (Cascade Lake, Zen 4 and later).
// neon: 64-bit ARM with dot products (Armv8.2 and later). neon_i8mm: and with products of int8 matrices.
enum class Isa { generic, avx2, avx512, neon, neon_i8mm };

bool runs(Isa isa);                       // compiled in, and this machine can run it
Isa best_isa();                           // the last one that runs
std::vector<Isa> runnable_isas();         // in rising order; generic is always first
Isa parse_isa(std::string_view name);     // a name, or "auto"; std::invalid_argument where it does not run
std::string_view name_of(Isa isa);

}  // namespace puna
