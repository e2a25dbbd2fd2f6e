// Finds the kernels for an instruction set, if this machine has it.
#if defined(__linux__)
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "CKernels.h"

extern const graft_kernels graft_scalar_kernels, graft_tile_reference_kernels;
#if defined(__x86_64__)
#include <cpuid.h>

extern const graft_kernels graft_avx2_kernels, graft_avx512_kernels, graft_vnni_kernels, graft_amx_kernels;

// What every vector set's target names.
static int has_avx2(void) {
  unsigned a, b, c, d;
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") &&
         __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

static int has_avx512(void) {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

static int has_vnni(void) { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }

static int has_tile_registers(void) {
  unsigned a, b, c, d;
  return __builtin_cpu_supports("avx512bf16") && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & bit_AMXTILE) &&
         (d & bit_AMXBF16) && (d & bit_AMXINT8);
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

#endif

static const graft_kernels *built_kernels(graft_level level) {
  switch (level) {
    case GRAFT_SCALAR: return &graft_scalar_kernels;
    case GRAFT_TILE_REFERENCE: return &graft_tile_reference_kernels;
#if defined(__x86_64__)
    case GRAFT_AVX2: return &graft_avx2_kernels;
    case GRAFT_AVX512: return &graft_avx512_kernels;
    case GRAFT_VNNI: return &graft_vnni_kernels;
    case GRAFT_AMX: return &graft_amx_kernels;
#endif
    default: return 0;
  }
}

static int machine_has(graft_level level) {
  switch (level) {
#if defined(__x86_64__)
    case GRAFT_AVX2: return has_avx2();
    case GRAFT_AVX512: return has_avx512();
    case GRAFT_VNNI: return has_vnni();
    case GRAFT_AMX: return has_vnni() && has_tile_registers() && may_use_tile_registers();
#endif
    default: return 1;
  }
}

const graft_kernels *graft_kernels_for(graft_level level) { return machine_has(level) ? built_kernels(level) : 0; }

int graft_kernels_are_built(graft_level level) { return built_kernels(level) != 0; }

int graft_tile_registers_are_refused(void) {
#if defined(__x86_64__)
  return has_tile_registers() && !may_use_tile_registers();
#else
  return 0;
#endif
}
