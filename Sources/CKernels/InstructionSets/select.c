// The kernels for an instruction set, if this machine has it.
#include "CKernels.h"

extern const graft_kernels graft_scalar_kernels;
#if defined(__x86_64__)
extern const graft_kernels graft_avx2_kernels, graft_avx512_kernels, graft_vnni_kernels;

static int has_avx512(void) {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
#endif

const graft_kernels *graft_kernels_for(graft_level level) {
  switch (level) {
    case GRAFT_SCALAR: return &graft_scalar_kernels;
#if defined(__x86_64__)
    case GRAFT_AVX2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &graft_avx2_kernels : 0;
    case GRAFT_AVX512: return has_avx512() ? &graft_avx512_kernels : 0;
    case GRAFT_VNNI: return has_avx512() && __builtin_cpu_supports("avx512vnni") ? &graft_vnni_kernels : 0;
#endif
    default: return 0;
  }
}
