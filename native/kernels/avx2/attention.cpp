#define PUNA_ISA avx2
#include "kernels/attention_body.h"
