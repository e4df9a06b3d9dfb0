// Reading as fast as one instruction set can: some lines of every stream in turn, put together in registers.
#include "limits.h"

namespace puna {
namespace {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
#elif defined(__AVX__)
constexpr int vector_bytes = 32;
#else
constexpr int vector_bytes = 16;
#endif
typedef uint64_t Vector __attribute__((vector_size(vector_bytes), may_alias));  // of any bytes

constexpr int together = 4;  // vectors of a stream at a time, each with a register of its own to end in

template <int streams> uint64_t read_streams(const uint8_t *from, size_t bytes, int64_t ahead) {
    const size_t part = bytes / streams;
    Vector a{}, b{}, c{}, d{};
    for (size_t at = 0; at < part; at += together * vector_bytes) {
#pragma GCC unroll 8
        for (int s = 0; s < streams; s++) {
            const uint8_t *p = from + static_cast<size_t>(s) * part + at;
            if (ahead) {
                for (int line = 0; line < together * vector_bytes; line += 64) __builtin_prefetch(p + ahead + line);
            }
            const Vector *vectors = reinterpret_cast<const Vector *>(p);
            a ^= vectors[0];
            b ^= vectors[1];
            c ^= vectors[2];
            d ^= vectors[3];
        }
    }
    const Vector all = (a ^ b) ^ (c ^ d);
    uint64_t sum = 0;
    for (int i = 0; i < vector_bytes / 8; i++) sum += all[i];
    return sum;
}

uint64_t read_bytes(const uint8_t *from, size_t bytes, int streams, int64_t ahead) {
    switch (streams) {
    case 2: return read_streams<2>(from, bytes, ahead);
    case 4: return read_streams<4>(from, bytes, ahead);
    case 8: return read_streams<8>(from, bytes, ahead);
    default: return read_streams<1>(from, bytes, ahead);
    }
}

bool always() { return true; }

}  // namespace
}  // namespace puna
