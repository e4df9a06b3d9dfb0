// A value that does not exceed the worst of the best so far is passed over, 64 at a time, as almost all are; the others
// wait in a list of twice the count until it is full, which makes the bar higher.
#include "best.h"

#include <algorithm>

namespace puna {
namespace {

struct Candidate {
    float value;
    int64_t id;
};

bool before(const Candidate &a, const Candidate &b) { return a.value > b.value || (a.value == b.value && a.id < b.id); }

bool any_above(const float *values, int64_t count, float bar) {
    int above = 0;
    for (int64_t i = 0; i < count; i++) above |= values[i] > bar;
    return above != 0;
}

}  // namespace

std::vector<int64_t> best(const float *values, int64_t size, int64_t count) {
    constexpr int64_t stride = 64;
    count = std::min(std::max<int64_t>(count, 0), size);
    std::vector<Candidate> kept;
    kept.reserve(static_cast<size_t>(2 * count));
    for (int64_t i = 0; i < count; i++) kept.push_back({values[i], i});
    float bar = 0;
    const auto raise = [&] {
        std::nth_element(kept.begin(), kept.begin() + count - 1, kept.end(), before);
        kept.resize(static_cast<size_t>(count));
        bar = kept.back().value;
    };
    if (count > 0 && count < size) raise();
    for (int64_t begin = count; count > 0 && begin < size; begin += stride) {
        const int64_t end = std::min(size, begin + stride);
        // A constant length, so that compilers make vectors of it.
        if (end - begin == stride ? !any_above(values + begin, stride, bar)
                                  : !any_above(values + begin, end - begin, bar))
            continue;
        for (int64_t i = begin; i < end; i++) {
            if (values[i] <= bar) continue;  // an equal of a lower id is there already
            kept.push_back({values[i], i});
            if (static_cast<int64_t>(kept.size()) == 2 * count) raise();
        }
    }
    std::sort(kept.begin(), kept.end(), before);
    std::vector<int64_t> ids;
    for (int64_t i = 0; i < count; i++) ids.push_back(kept[static_cast<size_t>(i)].id);
    return ids;
}

}  // namespace puna
