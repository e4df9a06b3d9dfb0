#define PUNA_ISA avx512
#include "kernels/recurrent_body.h"
