#define PUNA_ISA neon
#include "kernels/recurrent_body.h"
