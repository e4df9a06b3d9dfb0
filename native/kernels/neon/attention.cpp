#define PUNA_ISA neon
#include "kernels/attention_body.h"
