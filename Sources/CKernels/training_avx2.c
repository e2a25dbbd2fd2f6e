// The backward pass's loops for AVX2 and FMA.
#include "CKernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,bmi2"))), apply_to = function)

// Two look-ups of eight values by a code's low three bits; its high bit, moved to the sign, chooses between them.
static inline __attribute__((always_inline)) void decode_lanes(const uint8_t *chunk, const float *scale, float *out,
                                                               size_t ldo) {
  const __m256i codes = _mm256_loadu_si256((const __m256i *)chunk);
  const __m256 low = _mm256_loadu_ps(graft_nf4_values), high = _mm256_loadu_ps(graft_nf4_values + 8);
  const __m256 factor = _mm256_loadu_ps(scale);
#pragma unroll
  for (int column = 0; column < 8; column++) {
    int shift = column < 4 ? column * 8 : (column - 4) * 8 + 4;
    __m256i index = _mm256_srli_epi32(codes, shift);
    __m256 value = _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, index), _mm256_permutevar8x32_ps(high, index),
                                    _mm256_castsi256_ps(_mm256_slli_epi32(codes, 28 - shift)));
    _mm256_storeu_ps(out + (size_t)column * ldo, _mm256_mul_ps(value, factor));
  }
}

static inline __attribute__((always_inline)) void decode_chunk(const uint8_t *chunk, const float *scale, float *out,
                                                               size_t ldo) {
  decode_lanes(chunk, scale, out, ldo);
  decode_lanes(chunk + 32, scale + 8, out + 8, ldo);
}

enum { TILE_ROWS = 6 };
#include "training.inc"

const graft_training_kernels graft_training_avx2 = TRAINING_KERNELS;
#pragma clang attribute pop
#endif
