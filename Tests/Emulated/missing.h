// Portable versions of AVX-512 intrinsics that the kernels use and SIMDe does not have, or passes on to the compiler.
#pragma once

typedef int emulated_ints __attribute__((vector_size(64)));
typedef short emulated_shorts __attribute__((vector_size(64)));
typedef float emulated_floats __attribute__((vector_size(64)));
#define EMULATED static inline __attribute__((always_inline))

EMULATED simde__m512i emulated_madd(simde__m512i a, simde__m512i b) {
  emulated_shorts x, y;
  emulated_ints sums;
  simde__m512i out;
  __builtin_memcpy(&x, &a, 64);
  __builtin_memcpy(&y, &b, 64);
  for (int i = 0; i < 16; i++) sums[i] = (int)x[2 * i] * y[2 * i] + (int)x[2 * i + 1] * y[2 * i + 1];
  __builtin_memcpy(&out, &sums, 64);
  return out;
}
#undef _mm512_madd_epi16
#define _mm512_madd_epi16(a, b) emulated_madd(a, b)

EMULATED emulated_floats emulated_floats_of(simde__m512i a) {
  emulated_ints x;
  __builtin_memcpy(&x, &a, 64);
  return __builtin_convertvector(x, emulated_floats);
}
#undef _mm512_cvtepi32_ps
#define _mm512_cvtepi32_ps(a) emulated_floats_of(a)
