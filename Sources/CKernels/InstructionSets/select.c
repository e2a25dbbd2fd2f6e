// Finds the kernels for an instruction set, if this machine has it.
#if defined(__linux__)
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "CKernels.h"

extern const graft_kernels graft_scalar_kernels, graft_tile_reference_kernels;
#if defined(__x86_64__)
extern const graft_kernels graft_avx2_kernels, graft_avx512_kernels, graft_vnni_kernels, graft_amx_kernels;

static int has_avx512(void) {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

static int has_tile_registers(void) {
  unsigned a, b, c, d;
  __asm__("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(0), "c"(0));
  if (a < 7) return 0;
  __asm__("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(7), "c"(0));
  const unsigned tile = 1u << 24, bf16 = 1u << 22;
  return (d & tile) && (d & bf16);
}

// On Linux, a process must ask for permission before it uses tile registers, once for all threads. Linux refuses if
// a thread's alternate signal stack is too small to save the registers.
static int may_use_tile_registers(void) {
#if defined(__linux__) && defined(SYS_arch_prctl)
  enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
  return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
  return 0;
#endif
}

static int has_amx(void) {
  return has_avx512() && __builtin_cpu_supports("avx512vnni") && has_tile_registers() && may_use_tile_registers();
}
#endif

const graft_kernels *graft_kernels_for(graft_level level) {
  switch (level) {
    case GRAFT_SCALAR: return &graft_scalar_kernels;
    case GRAFT_TILE_REFERENCE: return &graft_tile_reference_kernels;
#if defined(__x86_64__)
    case GRAFT_AVX2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &graft_avx2_kernels : 0;
    case GRAFT_AVX512: return has_avx512() ? &graft_avx512_kernels : 0;
    case GRAFT_VNNI: return has_avx512() && __builtin_cpu_supports("avx512vnni") ? &graft_vnni_kernels : 0;
    case GRAFT_AMX: return has_amx() ? &graft_amx_kernels : 0;
#endif
    default: return 0;
  }
}

int graft_tile_registers_are_refused(void) {
#if defined(__x86_64__)
  return has_tile_registers() && !may_use_tile_registers();
#else
  return 0;
#endif
}
