// AVX-512 without VNNI.
#define TARGET "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c,bmi2"
#define TABLE graft_avx512_kernels
#define SET "avx512"
#include "avx512.inc"
