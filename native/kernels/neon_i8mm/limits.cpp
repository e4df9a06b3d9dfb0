#define PUNA_ISA neon_i8mm
#define PUNA_BYTES "smmla"
#define PUNA_BYTES_OPERATIONS 64
#include "kernels/neon/peaks.h"
