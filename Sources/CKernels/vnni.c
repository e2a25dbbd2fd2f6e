// AVX-512 with VNNI: multiplying pairs and adding their sums is one instruction.
#define GRAFT_HAS_VNNI
#include "avx512.c"
