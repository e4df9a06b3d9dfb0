#define PUNA_ISA generic
#include "kernels/rows_body.h"
