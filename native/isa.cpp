#include "isa.h"

#include <stdexcept>
#include <string>

namespace puna {

// PUNA_HAVE_* say what was compiled in. The builtins ask cpuid, and xgetbv for what the operating system saves.
bool runs(Isa isa) {
#if defined(PUNA_HAVE_AVX2)
    const bool avx2 =
        __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    if (isa == Isa::avx2) return avx2;
#endif
#if defined(PUNA_HAVE_AVX512)
    if (isa == Isa::avx512)
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512vnni");
#endif
    return isa == Isa::generic;
}

std::vector<Isa> runnable_isas() {
    std::vector<Isa> result;
    for (Isa isa : {Isa::generic, Isa::avx2, Isa::avx512})
        if (runs(isa)) result.push_back(isa);
    return result;
}

Isa best_isa() { return runnable_isas().back(); }

std::string_view name_of(Isa isa) {
    switch (isa) {
    case Isa::generic: return "generic";
    case Isa::avx2: return "avx2";
    case Isa::avx512: return "avx512";
    }
    return "unknown";
}

Isa parse_isa(std::string_view name) {
    if (name == "auto") return best_isa();
    std::string known = "auto";
    for (Isa isa : runnable_isas()) {
        if (name == name_of(isa)) return isa;
        known.append(" ").append(name_of(isa));
    }
    throw std::invalid_argument("choosing the instruction set: '" + std::string(name) +
                                "' is unknown or does not run here; these do: " + known);
}

}  // namespace puna
