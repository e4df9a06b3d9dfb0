// Small pieces of stored bytes: words, halves, bits. It knows no type.
#pragma once

#include <cstdint>
#include <cstring>

#include "bits.h"

namespace puna {
namespace {

inline uint32_t word_at(const uint8_t *p) {
    uint32_t word;
    std::memcpy(&word, p, 4);
    return word;
}

inline float half_to_float(const uint8_t *p) {
    uint16_t half;
    std::memcpy(&half, p, 2);
    return half_to_float(half);
}

// Four bits to the lowest bits of four bytes.
inline uint32_t spread(uint32_t bits) { return (bits & 15) * 0x00204081u & 0x01010101u; }

}  // namespace
}  // namespace puna
