#include "isa.h"

#include <stdexcept>
#include <string>

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace puna {
namespace {

// PUNA_HAVE_* say what was compiled in. Every flag that CMakeLists.txt compiles with is asked for. GCC's and Clang's
// builtins ask cpuid, and xgetbv for what the operating system saves.
bool has_avx2() {
#if defined(PUNA_HAVE_AVX2)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c") &&
           __builtin_cpu_supports("bmi2");
#else
    return false;
#endif
}

bool has_avx512() {
#if defined(PUNA_HAVE_AVX512)
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
#else
    return false;
#endif
}

#if defined(PUNA_HAVE_NEON)
struct ArmFeatures {
    bool dotprod, i8mm;
};

ArmFeatures arm_features() {
#if defined(__linux__)
    return {(getauxval(AT_HWCAP) >> 20 & 1) != 0, (getauxval(AT_HWCAP2) >> 13 & 1) != 0};  // ASIMDDP, I8MM
#elif defined(__APPLE__)
    const auto has = [](const char *name) {
        int value = 0;
        size_t size = sizeof value;
        return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
    };
    return {has("hw.optional.arm.FEAT_DotProd"), has("hw.optional.arm.FEAT_I8MM")};
#else
    return {};  // nobody to ask
#endif
}
#endif

bool has_neon() {
#if defined(PUNA_HAVE_NEON)
    return arm_features().dotprod;
#else
    return false;
#endif
}

bool has_neon_i8mm() {
#if defined(PUNA_HAVE_NEON_I8MM)
    return has_neon() && arm_features().i8mm;
#else
    return false;
#endif
}

struct Known {
    Isa isa;
    std::string_view name;
    bool (*runs)();
};

constexpr Known known[] = {
    {Isa::generic, "generic", [] { return true; }},
    {Isa::avx2, "avx2", has_avx2},
    {Isa::avx512, "avx512", has_avx512},
    {Isa::neon, "neon", has_neon},
    {Isa::neon_i8mm, "neon_i8mm", has_neon_i8mm},
};

}  // namespace

bool runs(Isa isa) { return known[static_cast<int>(isa)].runs(); }
std::string_view name_of(Isa isa) { return known[static_cast<int>(isa)].name; }

std::vector<Isa> runnable_isas() {
    std::vector<Isa> result;
    for (const Known &one : known)
        if (one.runs()) result.push_back(one.isa);
    return result;
}

Isa best_isa() { return runnable_isas().back(); }

Isa parse_isa(std::string_view name) {
    if (name == "auto") return best_isa();
    std::string names = "auto";
    for (Isa isa : runnable_isas()) {
        if (name == name_of(isa)) return isa;
        names.append(" ").append(name_of(isa));
    }
    throw std::invalid_argument("choosing the instruction set: '" + std::string(name) +
                                "' is unknown or does not run here; these do: " + names);
}

}  // namespace puna
