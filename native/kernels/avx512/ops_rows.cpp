#define PUNA_ISA avx512
#include "kernels/rows_body.h"
