#define PUNA_ISA avx2
#include "kernels/rows_body.h"
