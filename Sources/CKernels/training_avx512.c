// The backward pass's loops for AVX-512.
#include "CKernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c,bmi2"))), \
                             apply_to = function)

static inline __attribute__((always_inline)) void decode_chunk(const uint8_t *chunk, const float *scale, float *out,
                                                               size_t ldo) {
  const __m512i codes = _mm512_loadu_si512(chunk);
  const __m512 values = _mm512_loadu_ps(graft_nf4_values), factor = _mm512_loadu_ps(scale);
#pragma unroll
  for (int column = 0; column < 8; column++) {
    int shift = column < 4 ? column * 8 : (column - 4) * 8 + 4;
    __m512 value = _mm512_permutexvar_ps(_mm512_srli_epi32(codes, shift), values);
    _mm512_storeu_ps(out + (size_t)column * ldo, _mm512_mul_ps(value, factor));
  }
}

enum { TILE_ROWS = 12 };
#include "training.inc"

const graft_training_kernels graft_training_avx512 = TRAINING_KERNELS;
#pragma clang attribute pop
#endif
