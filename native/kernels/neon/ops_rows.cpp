#define PUNA_ISA neon
#include "kernels/rows_body.h"
