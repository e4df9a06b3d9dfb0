#define PUNA_ISA generic
#include "kernels/recurrent_body.h"
