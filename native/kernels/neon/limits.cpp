#define PUNA_ISA neon
#define PUNA_BYTES "sdot"
#define PUNA_BYTES_OPERATIONS 32
#include "kernels/neon/peaks.h"
