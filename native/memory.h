// Large aligned blocks of memory for weights and arenas, on huge pages where the system has them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace puna {

struct FreeMemory {
    void operator()(uint8_t *p) const { std::free(p); }
};

using Memory = std::unique_ptr<uint8_t[], FreeMemory>;

// Uninitialized, 64-byte aligned; std::bad_alloc where there is not enough.
inline Memory allocate(size_t bytes) {
    constexpr size_t huge = size_t{2} << 20;
    const size_t alignment = bytes >= 2 * huge ? huge : 64;
    const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    auto *p = static_cast<uint8_t *>(std::aligned_alloc(alignment, rounded ? rounded : alignment));
    if (!p) throw std::bad_alloc();
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (alignment == huge) madvise(p, rounded, MADV_HUGEPAGE);
#endif
    return Memory(p);
}

}  // namespace puna
