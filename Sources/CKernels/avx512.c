// AVX-512: a vector of 16 lanes is one register, and one register holds all values of the type.
#include "CKernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c,bmi2"))), \
                             apply_to = function)

typedef __m512i decode_t;
typedef float decoded_t __attribute__((vector_size(64)));

static inline __attribute__((always_inline)) decode_t load_codes(const uint8_t *p) { return _mm512_loadu_si512(p); }

static inline __attribute__((always_inline)) decoded_t decode(decode_t codes, int column) {
  int shift = column < 4 ? column * 8 : (column - 4) * 8 + 4;
  return _mm512_permutexvar_ps(_mm512_srli_epi32(codes, shift), _mm512_loadu_ps(graft_nf4_values));
}

#define ROWS 12
#define HEADS 4
#include "vector.inc"

const graft_kernels graft_avx512_kernels = KERNELS("avx512");
#pragma clang attribute pop
#endif
