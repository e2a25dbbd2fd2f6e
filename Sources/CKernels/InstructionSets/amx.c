// AMX's tile registers for products and attention of many rows and for training's products, AVX-512 with VNNI for all else.
#define TARGET "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16,avx2,fma,f16c,bmi2,amx-tile,amx-bf16,amx-int8"
#define TABLE graft_amx_kernels
#define SET "amx"
#define USES_VNNI
#define USES_TILES
#include "avx512.inc"
