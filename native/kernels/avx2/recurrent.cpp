#define PUNA_ISA avx2
#include "kernels/recurrent_body.h"
