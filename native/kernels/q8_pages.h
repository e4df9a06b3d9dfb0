// Pages of q8_0 states: for every 32 elements the 64 scales, then the integers in pairs, as products of 16-bit integers
// take them two by two. Pairs are of elements in pages of keys, (16, slot, 2), and of slots in pages of values,
// (32, element, 2).
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/rows.h"

namespace puna {

constexpr int64_t q8_row_block = 34;                          // bytes of 32 elements of a row: scale and integers
constexpr int64_t q8_page_scales = 2 * page_slots;            // bytes
constexpr int64_t q8_page_block = q8_row_block * page_slots;  // bytes of 32 elements of a page

inline void place_q8_key(const uint8_t *row, int64_t n, uint8_t *page, int64_t slot) {
    for (int64_t block = 0; block < n / 32; block++, row += q8_row_block, page += q8_page_block) {
        std::memcpy(page + 2 * slot, row, 2);
        uint8_t *pairs = page + q8_page_scales + 2 * slot;
        for (int64_t i = 0; i < 16; i++) std::memcpy(pairs + i * 2 * page_slots, row + 2 + 2 * i, 2);
    }
}

inline void place_q8_value(const uint8_t *row, int64_t n, uint8_t *page, int64_t slot) {
    for (int64_t block = 0; block < n / 32; block++, row += q8_row_block, page += q8_page_block) {
        std::memcpy(page + 2 * slot, row, 2);
        uint8_t *pairs = page + q8_page_scales + slot / 2 * 64 + slot % 2;
        for (int64_t i = 0; i < 32; i++) pairs[2 * i] = row[2 + i];
    }
}

}  // namespace puna
