#define PUNA_ISA generic
#include "kernels/attention_body.h"
