// AVX-512 with VNNI, where multiplying pairs and adding their sums is one instruction.
#define TARGET "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c,bmi2"
#define TABLE graft_vnni_kernels
#define SET "vnni"
#define USES_VNNI
#include "avx512.inc"
