#define PUNA_ISA avx512
#include "kernels/attention_body.h"
