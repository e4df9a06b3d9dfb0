// All kernels of an instruction set. kernels.cpp is the one place that lists the sets.
#pragma once

#include "isa.h"
#include "kernels/attention.h"
#include "kernels/limits.h"
#include "kernels/rows.h"
#include "linear.h"
#include "recurrent.h"

namespace puna {

struct KernelSet {
    const LinearKernels &linear;
    const RowKernels &rows;
    const AttentionKernels &attention;
    const RecurrentKernels &recurrent;
    const LimitKernels &limits;
};

const KernelSet &kernels_of(Isa isa);  // the generic ones where that one was not compiled

}  // namespace puna
