// Memory that attention steps need; the steps themselves are found by name (program.h).
#pragma once

#include <cstdint>

namespace puna {

int64_t attention_plan_bytes(int64_t t);                                             // of a plan for up to t tokens
int64_t attention_partial_bytes(int64_t groups, int64_t share, int64_t value_size);  // of partial results of one step

}  // namespace puna
